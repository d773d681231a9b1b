// Progressive scale expansion (PSENet, section 3.2): plain C++ first, Python bindings last.
//
// Kernels are numbered in the order of growth: kernel 0 is the smallest one, whose connected
// components are the seeds. The map is held as one byte a cell with a border of empty cells, so
// that neighbours need no bounds check. Each bit of a cell says that its pixel belongs to one
// kernel and has no label yet; a labelled cell is 0. One byte load thus answers the only question
// that growth asks.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

namespace {

// Kernels that one byte holds; a longer list is grown in several passes.
constexpr int kKernelsPerPass = 7;
// The bit of a pixel that a kernel of a later pass may still take.
constexpr uint8_t kLater = 1 << kKernelsPerPass;
constexpr uint8_t kSeedBit = 1;

struct Shape {
  int kernels;
  int height;
  int width;

  size_t pixels() const { return static_cast<size_t>(height) * width; }
};

// uint8 (K, H, W), largest kernel first; a pixel that is not 0 belongs to the kernel.
struct Planes {
  const uint8_t* data;
  Shape shape;

  // Sets bit b of each cell whose pixel belongs to kernel first + b, for `count` kernels; row y of
  // the map lies at cells + y * stride.
  void pack(int first, int count, uint8_t* cells, int stride) const {
    for (int bit = 0; bit < count; ++bit) {
      const uint8_t* pixels = data + (shape.kernels - 1 - first - bit) * shape.pixels();
      const uint8_t member = static_cast<uint8_t>(1 << bit);
      uint8_t* row = cells;
      for (int y = 0; y < shape.height; ++y, row += stride, pixels += shape.width) {
        for (int x = 0; x < shape.width; ++x) {
          row[x] |= pixels[x] ? member : 0;
        }
      }
    }
  }
};

// float32 (H, W, K), smallest kernel first; a score above the threshold belongs to the kernel.
struct Scores {
  const float* data;
  Shape shape;
  float threshold;

  // As Planes::pack. A row is compared as a whole, which compilers vectorise; then its pixels, most
  // of which belong to no kernel, are looked at eight bytes at a time.
  void pack(int first, int count, uint8_t* cells, int stride) const {
    const size_t size = static_cast<size_t>(shape.width) * shape.kernels;
    std::vector<uint8_t> above(size + sizeof(uint64_t));
    const float* scores = data;
    for (int y = 0; y < shape.height; ++y, cells += stride, scores += size) {
      for (size_t i = 0; i < size; ++i) {
        above[i] = scores[i] > threshold;
      }
      const uint8_t* members = above.data() + first;
      for (int x = 0; x < shape.width; ++x, members += shape.kernels) {
        if (any_of_eight(members)) {
          for (int bit = 0; bit < count; ++bit) {
            cells[x] |= static_cast<uint8_t>(members[bit] << bit);
          }
        }
      }
    }
  }

  static bool any_of_eight(const uint8_t* bytes) {
    uint64_t eight;
    std::memcpy(&eight, bytes, sizeof(eight));
    return eight != 0;
  }
};

// Consecutive cells [begin, end) of one row that belong to the smallest kernel.
struct Run {
  int begin;
  int end;
  int parent;  // index of another run of the same component, its own for the component's first run
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

// The component's first run in row-major order becomes its root, so labels follow the first pixels.
void unite(std::vector<Run>* runs, int one, int other) {
  const int a = find_root(runs, one);
  const int b = find_root(runs, other);
  if (a != b) {
    (*runs)[std::max(a, b)].parent = std::min(a, b);
    (*runs)[std::min(a, b)].area += (*runs)[std::max(a, b)].area;
  }
}

class Expansion {
 public:
  explicit Expansion(const Shape& shape)
      : shape_(shape),
        stride_(shape.width + 2),
        cells_(static_cast<size_t>(stride_) * (shape.height + 2)),
        labels_(cells_.size()) {}

  // Labels the map; returns the number of labels, which are 1, 2, ... in the order of their first
  // seeds.
  template <typename Source>
  int run(const Source& source, int64_t min_area) {
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

  // Writes int32 (H, W).
  void copy_labels(int32_t* target) const {
    for (int row = 0; row < shape_.height; ++row, target += shape_.width) {
      std::copy_n(labels_.data() + first_cell(row), shape_.width, target);
    }
  }

 private:
  size_t first_cell(int row) const { return static_cast<size_t>(row + 1) * stride_ + 1; }

  template <typename Source>
  void pack(const Source& source, int first, int kernels) {
    const uint8_t later = first + kernels < shape_.kernels ? kLater : 0;
    for (int row = 0; row < shape_.height; ++row) {
      std::fill_n(cells_.data() + first_cell(row), shape_.width, later);
    }
    source.pack(first, kernels, cells_.data() + first_cell(0), stride_);
    if (first > 0) {
      close_labelled();
    }
  }

  void close_labelled() {
    for (size_t cell = 0; cell < cells_.size(); ++cell) {
      cells_[cell] = labels_[cell] ? 0 : cells_[cell];
    }
  }

  int plant_seeds(int64_t min_area) {
    std::vector<Run> runs = find_runs();
    connect(&runs);
    const int count = number(&runs, min_area);
    for (const Run& run : runs) {
      if (run.label) {
        std::fill(labels_.begin() + run.begin, labels_.begin() + run.end, run.label);
        std::fill(cells_.begin() + run.begin, cells_.begin() + run.end, 0);
      }
    }
    for (const Run& run : runs) {
      for (int cell = run.begin; run.label && cell < run.end; ++cell) {
        if (cells_[cell - 1] | cells_[cell + 1] | cells_[cell - stride_] | cells_[cell + stride_]) {
          frontier_.push_back(cell);
        }
      }
    }
    return count;
  }

  // The border's empty cells end each row's runs, so the map is read as one line.
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

  // First cell from `cell` on that belongs to the smallest kernel; eight empty ones cost one
  // comparison.
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

  // Breadth-first growth into one kernel. A pixel that grew nothing stays in the frontier for the
  // next kernel; one that grew does not, its new pixels stand for it. This decides ties, and is
  // kept exactly as in the reference. Pixels without an open neighbour can never grow again:
  // leaving them out early changes neither the order nor the result.
  void grow(uint8_t kernel) {
    uint8_t* cells = cells_.data();
    int32_t* labels = labels_.data();
    const int offsets[] = {-1, 1, -stride_, stride_};
    std::vector<int> idle;
    for (size_t head = 0; head < frontier_.size(); ++head) {
      const int cell = frontier_[head];
      bool grew = false;
      uint8_t open = 0;
      for (int offset : offsets) {
        const int neighbour = cell + offset;
        if (cells[neighbour] & kernel) {
          cells[neighbour] = 0;
          labels[neighbour] = labels[cell];
          frontier_.push_back(neighbour);
          grew = true;
        }
        open |= cells[neighbour];
      }
      if (!grew && open) {
        idle.push_back(cell);
      }
    }
    frontier_.swap(idle);
  }

  const Shape shape_;
  const int stride_;
  std::vector<uint8_t> cells_;
  std::vector<int32_t> labels_;
  std::vector<int> frontier_;
};

// First and last column of one label in one row.
struct Extent {
  int32_t label;
  int32_t row;
  int32_t first;
  int32_t last;
};

// One pass over int32 (H, W), labels 0..count; the extents are sorted by label, then row.
std::vector<Extent> find_extents(const int32_t* labels, int height, int width, int count) {
  std::vector<Extent> found;
  std::vector<int> latest(count + 1, -1);
  std::vector<size_t> starts(count + 2, 0);
  for (int row = 0; row < height; ++row, labels += width) {
    for (int x = 0; x < width; ++x) {
      const int32_t label = labels[x];
      if (label == 0) {
        continue;
      }
      if (label < 0 || label > count) {
        throw std::invalid_argument("labels must lie between 0 and the number of labels");
      }
      const int index = latest[label];
      if (index >= 0 && found[index].row == row) {
        found[index].last = x;
      } else {
        latest[label] = static_cast<int>(found.size());
        found.push_back({label, row, x, x});
        ++starts[label + 1];
      }
    }
  }
  for (int label = 0; label <= count; ++label) {
    starts[label + 1] += starts[label];
  }
  std::vector<Extent> ordered(found.size());
  for (const Extent& extent : found) {
    ordered[starts[extent.label]++] = extent;
  }
  return ordered;
}

}  // namespace

// Bindings. The package's Python checks types and shapes, and each call releases the interpreter's
// lock.

namespace {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Throws where the padded map has more cells than an int counts.
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
    Expansion expansion(shape);
    count = expansion.run(source, min_area);
    expansion.copy_labels(target);
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
  const int32_t* data = labels.data();
  std::vector<Extent> extents;
  {
    py::gil_scoped_release released;
    extents = find_extents(data, shape.height, shape.width, count);
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
