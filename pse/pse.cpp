// Progressive scale expansion (PSENet, section 3.2): plain C++ first, Python bindings last.
//
// Kernels are numbered in the order of growth: kernel 0 is the smallest one, whose connected
// components are the seeds. The map has one byte per cell and a border of empty cells, so that
// neighbours need no bounds check. A set bit of a cell means that its pixel belongs to a kernel and
// has no label yet; labelled cells are 0. Growth therefore needs to load only one byte per
// neighbour.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace {

// Kernels per byte; more kernels are grown in several passes.
constexpr int kKernelsPerPass = 7;
// The bit of pixels in kernels of later passes.
constexpr uint8_t kLater = 1 << kKernelsPerPass;
constexpr uint8_t kSeedBit = 1;

// Pixels that are tested together, as most are empty.
constexpr int kGroup = 8;

// Returns true if any of kGroup numbers is not 0.
inline bool any_of(const int32_t* numbers) {
  int32_t any = 0;
  for (int i = 0; i < kGroup; ++i) {
    any |= numbers[i];
  }
  return any != 0;
}

struct Shape {
  int kernels;
  int height;
  int width;

  size_t pixels() const { return static_cast<size_t>(height) * width; }
};

// uint8 (K, H, W), largest kernel first; nonzero pixels belong to the kernel.
struct Planes {
  const uint8_t* data;
  Shape shape;

  // Sets bit b of each cell in a row if its pixel belongs to kernel first + b, for `count` kernels.
  void pack_row(int row, int first, int count, uint8_t* cells) const {
    for (int bit = 0; bit < count; ++bit) {
      const uint8_t* pixels = data + (shape.kernels - 1 - first - bit) * shape.pixels() +
                              static_cast<size_t>(row) * shape.width;
      const uint8_t member = static_cast<uint8_t>(1 << bit);
      for (int x = 0; x < shape.width; ++x) {
        cells[x] |= pixels[x] ? member : 0;
      }
    }
  }
};

// float32 (H, W, K), smallest kernel first; pixels with a higher score than the threshold belong to
// the kernel.
struct Scores {
  const float* data;
  Shape shape;
  float threshold;

  // As Planes::pack_row. As most pixels belong to no kernel, groups of them are tested at once.
  void pack_row(int row, int first, int count, uint8_t* cells) const {
    const float* scores = data + static_cast<size_t>(row) * shape.width * shape.kernels;
    for (int begin = 0; begin < shape.width; begin += kGroup) {
      const int end = std::min(begin + kGroup, shape.width);
      const float* pixel = scores + static_cast<size_t>(begin) * shape.kernels;
      if (end - begin < kGroup || any_above(pixel)) {
        for (int x = begin; x < end; ++x, pixel += shape.kernels) {
          cells[x] |= members(pixel + first, count);
        }
      }
    }
  }

  // Returns true if any score of kGroup pixels exceeds the threshold; compilers vectorize the loop.
  bool any_above(const float* scores) const {
    int32_t lanes[kGroup] = {};
    for (int kernel = 0; kernel < shape.kernels; ++kernel, scores += kGroup) {
      for (int lane = 0; lane < kGroup; ++lane) {
        lanes[lane] |= scores[lane] > threshold;
      }
    }
    return any_of(lanes);
  }

  uint8_t members(const float* scores, int count) const {
    int bits = 0;
    for (int bit = 0; bit < count; ++bit) {
      bits |= (scores[bit] > threshold) << bit;
    }
    return static_cast<uint8_t>(bits);
  }
};

// Consecutive cells [begin, end) of a row that belong to the smallest kernel.
struct Run {
  int begin;
  int end;
  int parent;  // index of another run of the same component; the first run's is its own
  int area;    // pixels of the component, valid in its first run
  int label;
};

int find_root(std::vector<Run>* runs, int index) {
  std::vector<Run>& all = *runs;
  while (all[index].parent != index) {
    all[index].parent = all[all[index].parent].parent;
    index = all[index].parent;
  }
  return index;
}

// The root of a component is its first run in row-major order, so labels follow the first pixels.
void unite(std::vector<Run>* runs, int one, int other) {
  const int a = find_root(runs, one);
  const int b = find_root(runs, other);
  if (a != b) {
    (*runs)[std::max(a, b)].parent = std::min(a, b);
    (*runs)[std::min(a, b)].area += (*runs)[std::max(a, b)].area;
  }
}

// Indices of a pixel in the bordered map of cells and in the map of labels.
struct Place {
  int cell;
  int pixel;
};

// Grows labels in an int32 (H, W) array of the caller, which is overwritten.
class Expansion {
 public:
  Expansion(const Shape& shape, int32_t* labels)
      : shape_(shape),
        // One border cell is both the end of a row and the start of the next.
        stride_(shape.width + 1),
        cells_(static_cast<size_t>(stride_) * (shape.height + 2)),
        labels_(labels) {}

  // Labels the map with 1, 2, ... in the order of the seeds; returns the number of labels.
  template <typename Source>
  int run(const Source& source, int64_t min_area) {
    std::fill_n(labels_, shape_.pixels(), 0);
    int count = 0;
    for (int first = 0; first < shape_.kernels; first += kKernelsPerPass) {
      const int kernels = std::min(kKernelsPerPass, shape_.kernels - first);
      pack(source, first, kernels);
      if (first == 0) {
        count = plant_seeds(min_area);
      }
      for (int bit = first == 0 ? 1 : 0; bit < kernels; ++bit) {
        grow(static_cast<uint8_t>(1 << bit));
      }
    }
    return count;
  }

 private:
  size_t first_cell(int row) const { return static_cast<size_t>(row + 1) * stride_ + 1; }

  Place place_of(int cell) const {
    const int row = cell / stride_ - 1;
    return {cell, static_cast<int>(cell - first_cell(row)) + row * shape_.width};
  }

  template <typename Source>
  void pack(const Source& source, int first, int kernels) {
    const uint8_t later = first + kernels < shape_.kernels ? kLater : 0;
    for (int row = 0; row < shape_.height; ++row) {
      uint8_t* cells = cells_.data() + first_cell(row);
      std::fill_n(cells, shape_.width, later);
      source.pack_row(row, first, kernels, cells);
      if (first > 0) {
        close_labelled(cells, labels_ + static_cast<size_t>(row) * shape_.width);
      }
    }
  }

  void close_labelled(uint8_t* cells, const int32_t* labels) const {
    for (int x = 0; x < shape_.width; ++x) {
      cells[x] = labels[x] ? 0 : cells[x];
    }
  }

  int plant_seeds(int64_t min_area) {
    std::vector<Run> runs = find_runs();
    connect(&runs);
    const int count = number(&runs, min_area);
    for (const Run& run : runs) {
      if (run.label) {
        std::fill_n(labels_ + place_of(run.begin).pixel, run.end - run.begin, run.label);
        std::fill(cells_.begin() + run.begin, cells_.begin() + run.end, 0);
      }
    }
    for (const Run& run : runs) {
      if (run.label) {
        queue_seeds(run);
      }
    }
    return count;
  }

  void queue_seeds(const Run& run) {
    Place place = place_of(run.begin);
    for (; place.cell < run.end; ++place.cell, ++place.pixel) {
      if (open_around(cells_.data() + place.cell)) {
        frontier_.push_back(place);
      }
    }
  }

  // Border cells end the runs of each row, so the map can be scanned as one line.
  std::vector<Run> find_runs() const {
    std::vector<Run> runs;
    const int end = static_cast<int>(cells_.size());
    for (int cell = next_seed(0); cell < end; cell = next_seed(cell)) {
      const int begin = cell;
      while (cells_[cell] & kSeedBit) {
        ++cell;
      }
      runs.push_back({begin, cell, static_cast<int>(runs.size()), cell - begin, 0});
    }
    return runs;
  }

  // Returns the first cell of the smallest kernel from `cell` on, testing eight cells at once.
  int next_seed(int cell) const {
    const int end = static_cast<int>(cells_.size());
    const uint64_t seeds = 0x0101010101010101ull * kSeedBit;
    uint64_t eight;
    for (; cell + 8 <= end; cell += 8) {
      std::memcpy(&eight, cells_.data() + cell, sizeof(eight));
      if (eight & seeds) {
        break;
      }
    }
    while (cell < end && !(cells_[cell] & kSeedBit)) {
      ++cell;
    }
    return cell;
  }

  void connect(std::vector<Run>* runs) const {
    const std::vector<Run>& all = *runs;
    int above = 0;
    for (int index = 0; index < static_cast<int>(all.size()); ++index) {
      while (all[above].end + stride_ <= all[index].begin) {
        ++above;
      }
      for (int other = above; all[other].begin + stride_ < all[index].end; ++other) {
        unite(runs, index, other);
      }
    }
  }

  static int number(std::vector<Run>* runs, int64_t min_area) {
    int count = 0;
    for (int index = 0; index < static_cast<int>(runs->size()); ++index) {
      const int root = find_root(runs, index);
      Run& run = (*runs)[index];
      if (root != index) {
        run.label = (*runs)[root].label;
      } else if (run.area >= min_area) {
        run.label = ++count;
      }
    }
    return count;
  }

  // Grows breadth-first into one kernel. Pixels that did not grow stay in the frontier for the next
  // kernel; those that grew are replaced by their new pixels. This order decides ties, exactly as
  // in the reference. Pixels without an open neighbour can never grow again, so they are dropped
  // early without changing the result.
  void grow(uint8_t kernel) {
    std::vector<Place> idle;
    std::vector<Place> grown;
    while (!frontier_.empty()) {
      grow_once(kernel, &grown, &idle);
      frontier_.swap(grown);
      grown.clear();
    }
    frontier_.swap(idle);
  }

  void grow_once(uint8_t kernel, std::vector<Place>* grown, std::vector<Place>* idle) {
    // Local copies, because a written byte might alias any member.
    uint8_t* const cells = cells_.data();
    int32_t* const labels = labels_;
    const Place steps[] = {{-1, -1}, {1, 1}, {-stride_, -shape_.width}, {stride_, shape_.width}};
    for (const Place place : frontier_) {
      const uint8_t open = open_around(cells + place.cell);
      if (!(open & kernel)) {
        if (open) {
          idle->push_back(place);
        }
        continue;
      }
      for (const Place step : steps) {
        const Place neighbour = {place.cell + step.cell, place.pixel + step.pixel};
        if (cells[neighbour.cell] & kernel) {
          cells[neighbour.cell] = 0;
          labels[neighbour.pixel] = labels[place.pixel];
          grown->push_back(neighbour);
        }
      }
    }
  }

  // Returns the bits of all unlabelled neighbours of a cell.
  uint8_t open_around(const uint8_t* cell) const {
    return cell[-1] | cell[1] | cell[-stride_] | cell[stride_];
  }

  const Shape shape_;
  const int stride_;
  std::vector<uint8_t> cells_;
  int32_t* const labels_;
  std::vector<Place> frontier_;
};

// First and last column of a label in a row.
struct Extent {
  int32_t label;
  int32_t row;
  int32_t first;
  int32_t last;
};

// Returns the first labelled column from x on, or the width.
int next_labelled(const int32_t* labels, int x, int width) {
  while (x + kGroup <= width && !any_of(labels + x)) {
    x += kGroup;
  }
  while (x < width && labels[x] == 0) {
    ++x;
  }
  return x;
}

// Collects the extents of labels 0..count row by row, and sorts them by label.
class ExtentList {
 public:
  explicit ExtentList(size_t count) : latest_(count + 1, -1), sizes_(count + 1, 0) {}

  // Throws if a label is out of range.
  void add_row(const int32_t* labels, int row, int width) {
    for (int x = next_labelled(labels, 0, width); x < width; x = next_labelled(labels, x, width)) {
      const int32_t label = labels[x];
      const int first = x;
      while (x < width && labels[x] == label) {
        ++x;
      }
      add_run({label, row, first, x - 1});
    }
  }

  // Sorted by label, then row.
  std::vector<Extent> sorted() const {
    std::vector<size_t> starts(sizes_.size(), 0);
    std::partial_sum(sizes_.begin(), sizes_.end() - 1, starts.begin() + 1);
    std::vector<Extent> ordered(found_.size());
    for (const Extent& extent : found_) {
      ordered[starts[extent.label]++] = extent;
    }
    return ordered;
  }

 private:
  void add_run(const Extent& run) {
    if (run.label < 0 || run.label >= static_cast<int64_t>(latest_.size())) {
      throw std::invalid_argument("labels must lie between 0 and the number of labels");
    }
    const int64_t index = latest_[run.label];
    if (index >= 0 && found_[index].row == run.row) {
      found_[index].last = run.last;
    } else {
      latest_[run.label] = static_cast<int64_t>(found_.size());
      found_.push_back(run);
      ++sizes_[run.label];
    }
  }

  std::vector<Extent> found_;
  std::vector<int64_t> latest_;  // index in found_ of each label's last extent, -1 for none
  std::vector<size_t> sizes_;    // extents of each label
};

}  // namespace

// Bindings. The Python package checks types and shapes; each call releases the GIL.

namespace {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Throws if the padded map has more cells than an int can count.
Shape checked_shape(py::ssize_t kernels, py::ssize_t height, py::ssize_t width) {
  const py::ssize_t limit = std::numeric_limits<int>::max();
  if (kernels > limit || height > limit - 2 || width > limit - 2 ||
      (height + 2) > limit / (width + 2)) {
    throw std::invalid_argument("the map is too large: at most 2147483647 pixels are supported");
  }
  return {static_cast<int>(kernels), static_cast<int>(height), static_cast<int>(width)};
}

template <typename Source>
py::tuple expand(const Source& source, int64_t min_area) {
  const Shape& shape = source.shape;
  Array<int32_t> labels({shape.height, shape.width});
  int32_t* target = labels.mutable_data();
  int count = 0;
  {
    py::gil_scoped_release released;
    count = Expansion(shape, target).run(source, min_area);
  }
  return py::make_tuple(labels, count);
}

py::tuple expand_kernels(const Array<uint8_t>& kernels, int64_t min_area) {
  const Shape shape = checked_shape(kernels.shape(0), kernels.shape(1), kernels.shape(2));
  return expand(Planes{kernels.data(), shape}, min_area);
}

py::tuple expand_scores(const Array<float>& scores, float threshold, int64_t min_area) {
  const Shape shape = checked_shape(scores.shape(2), scores.shape(0), scores.shape(1));
  return expand(Scores{scores.data(), shape, threshold}, min_area);
}

Array<int32_t> row_extents(const Array<int32_t>& labels, int count) {
  const Shape shape = checked_shape(1, labels.shape(0), labels.shape(1));
  if (count < 0) {
    throw std::invalid_argument("the number of labels must not be negative");
  }
  const int32_t* data = labels.data();
  std::vector<Extent> extents;
  {
    py::gil_scoped_release released;
    ExtentList list(count);
    for (int row = 0; row < shape.height; ++row) {
      list.add_row(data + static_cast<size_t>(row) * shape.width, row, shape.width);
    }
    extents = list.sorted();
  }
  Array<int32_t> result({static_cast<py::ssize_t>(extents.size()), py::ssize_t{4}});
  if (!extents.empty()) {
    std::memcpy(result.mutable_data(), extents.data(), extents.size() * sizeof(Extent));
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_pse, module) {
  module.doc() = "Progressive scale expansion; the package pse checks the arguments.";
  module.def("expand_kernels", &expand_kernels, py::arg("kernels").noconvert(), py::arg("min_area"),
             "uint8 (K, H, W), largest first -> (int32 (H, W), number of labels)");
  module.def("expand_scores", &expand_scores, py::arg("scores").noconvert(), py::arg("threshold"),
             py::arg("min_area"),
             "float32 (H, W, K), smallest first -> (int32 (H, W), number of labels)");
  module.def("row_extents", &row_extents, py::arg("labels").noconvert(), py::arg("count"),
             "int32 (H, W) -> int32 (M, 4): label, row, first column, last column");
}
