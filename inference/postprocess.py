"""Post-processing: score maps -> kernels -> labels -> regions in the original image.

``find_boxes`` returns quadrilaterals, ``find_polygons`` the outlines of the labels, and
``find_regions`` either of them with scores.
"""

import functools
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from pse import pse_from_scores, row_extents

# Boxes with a shorter side, in pixels of the original image, are dropped as noise.
MIN_SIDE = 5


class Thresholds(NamedTuple):
    """Thresholds of post-processing, named like their flags; see --help for units."""

    seg_map_thresh: float = 0.9
    min_area_thresh: int = 6
    min_box_side: int = 0
    min_score: float = 0.0
    min_region_area: int = 0

    def flags(self) -> str:
        """Formats the thresholds as command-line flags."""
        return ' '.join(f'--{name}={value}' for name, value in self._asdict().items())


class Geometry(NamedTuple):
    """Sizes, (width, height) in pixels, of the network's input and of the original image."""

    input_size: Tuple[int, int]
    image_size: Tuple[int, int]

    @property
    def ratios(self) -> Tuple[float, float]:
        """Size of the network's input divided by that of the original image, (x, y)."""
        return (self.input_size[0] / self.image_size[0], self.input_size[1] / self.image_size[1])


class Regions(NamedTuple):
    """The N text regions of an image.

    polygons: int32 (N, 4, 2), or for outlines a list of int32 (P, 2); x, y in pixels of the
        original image, clockwise.
    scores: float32 (N,), 0..1, mean score of the largest kernel over each region.
    areas: float32 (N,), area of the labels in pixels of the original image.
    """

    polygons: Sequence[np.ndarray]
    scores: np.ndarray
    areas: np.ndarray

    @property
    def quads(self) -> np.ndarray:
        """The polygons or their minimum-area rectangles, int32 (N, 4, 2), clockwise."""
        if isinstance(self.polygons, np.ndarray):
            return self.polygons
        quads = [cv2.boxPoints(cv2.minAreaRect(polygon)) for polygon in self.polygons]
        return clockwise(np.array(quads, np.float32).reshape(-1, 4, 2).astype(np.int32))


def find_boxes(score_maps: np.ndarray, geometry: Geometry, thresholds: Thresholds) -> np.ndarray:
    """Finds rectangles, int32 (N, 4, 2); see ``find_regions``."""
    return find_regions(score_maps, geometry, thresholds).polygons


def find_polygons(score_maps: np.ndarray, geometry: Geometry, thresholds: Thresholds,
                  tolerance: float = 4.0) -> List[np.ndarray]:
    """Finds the outlines of texts, int32 (P, 2) each; see ``find_regions``."""
    return find_regions(score_maps, geometry, thresholds, tolerance).polygons


def find_regions(score_maps: np.ndarray, geometry: Geometry, thresholds: Thresholds,
                 tolerance: Optional[float] = None) -> Regions:
    """Converts the network's output to regions: threshold, expand, fit, map back.

    Args:
        score_maps: float32 (h, w, K), 0..1, smallest kernel first. Unchanged.
        geometry: sizes of the image.
        thresholds: pixels with a score above ``seg_map_thresh`` belong to a kernel. Dropped are
            seeds of fewer than ``min_area_thresh`` map pixels, rectangles with a side below
            ``min_box_side`` pixels of the image, regions with a mean score below ``min_score``, and
            regions that cover fewer than ``min_region_area`` pixels of the image.
        tolerance: maximum distance of a simplified outline, in pixels of the network's input; None
            for minimum-area rectangles.

    Returns:
        The regions. Outlines are simple polygons: one that crosses itself after rounding is
        simplified less or, if that does not help, replaced by its rectangle.
    """
    labels, count = _expand(score_maps, thresholds)
    scores, sizes = _measured(labels, count, score_maps)
    extents = _Extents.of(labels, count, geometry.input_size)
    boxes, kept = to_original(_rectangles(extents), geometry, thresholds.min_box_side)
    height, width = labels.shape
    areas = sizes * np.float32(geometry.image_size[0] / width * (geometry.image_size[1] / height))
    wanted = ((scores >= thresholds.min_score) & (areas >= thresholds.min_region_area))[kept]
    boxes, kept = boxes[wanted], kept[wanted]
    polygons = boxes if tolerance is None else _polygons(
        _Kept(labels, extents, kept, boxes), geometry, tolerance)
    return Regions(polygons, scores[kept], areas[kept])


class _Kept(NamedTuple):
    """Labels to trace, kept + 1, with their rectangles."""

    labels: np.ndarray
    extents: '_Extents'
    kept: np.ndarray
    boxes: np.ndarray

    def only(self, places: np.ndarray) -> '_Kept':
        """Selects a subset."""
        return self._replace(kept=self.kept[places], boxes=self.boxes[places])


def _polygons(wanted: _Kept, geometry: Geometry, tolerance: float) -> List[np.ndarray]:
    """Returns simple outlines in the original image, int32 (P, 2) each."""
    if not wanted.kept.size:
        return []
    outlines = _outlines(*wanted[:3], tolerance)
    # All points at once, as one call per outline would dominate the time.
    lengths = np.array([len(outline) for outline in outlines])
    points = _in_image(np.concatenate(outlines), geometry)
    ends = lengths.cumsum()
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - lengths
    moves = (points != points[following]).any(axis=1)
    points, lengths = points[moves], np.add.reduceat(moves, ends - lengths, dtype=np.int64)
    polygons = np.split(points, lengths.cumsum()[:-1])
    crossing = np.flatnonzero(~_are_simple(points, lengths))
    if crossing.size:
        # Most of them are simple with less simplification; thin ones may collapse when rounded.
        others = wanted.only(crossing)
        finer = _polygons(others, geometry, tolerance // 2) if tolerance else others.boxes
        for index, polygon in zip(crossing, finer):
            polygons[index] = polygon
    return polygons


def _expand(score_maps: np.ndarray, thresholds: Thresholds) -> Tuple[np.ndarray, int]:
    """Returns the labels, int32 (h, w), and their number."""
    if not 0 <= thresholds.seg_map_thresh <= 1:
        raise ValueError(f'seg_map_thresh must lie in 0..1, not {thresholds.seg_map_thresh}')
    labels, values = pse_from_scores(score_maps, thresholds.seg_map_thresh,
                                     thresholds.min_area_thresh)
    return labels, len(values)


def _measured(labels: np.ndarray, count: int, score_maps: np.ndarray,
              ) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the mean scores of labels, float32 (N,), and their sizes in pixels, int64 (N,)."""
    # Only a few pixels are text.
    rows, columns = np.nonzero(labels)
    places = labels[rows, columns]
    sums = np.bincount(places, score_maps[rows, columns, -1], count + 1)[1:]
    sizes = np.bincount(places, minlength=count + 1)[1:]
    return (sums / sizes).astype(np.float32), sizes


def _outlines(labels: np.ndarray, extents: '_Extents', kept: np.ndarray,
              tolerance: float) -> List[np.ndarray]:
    """Traces the upsampled labels kept + 1: int32 (P, 2) each, clockwise."""
    rows, starts = extents.rows, extents.ends[:-1]
    first_columns = np.minimum.reduceat(rows[:, 2], starts)[kept]
    last_columns = np.maximum.reduceat(rows[:, 3], starts)[kept]
    first_rows, last_rows = rows[starts[kept], 1], rows[extents.ends[kept + 1] - 1, 1]
    lefts, tops = extents.left[first_columns], extents.top[first_rows]
    places = np.stack([kept + 1, first_columns, last_columns + 1, first_rows, last_rows + 1,
                       lefts, tops, extents.right[last_columns] + 1 - lefts,
                       extents.bottom[last_rows] + 1 - tops], axis=1)
    outlines = []
    for label, x0, x1, y0, y1, left, top, width, height in places.tolist():
        mask = (labels[y0:y1, x0:x1] == label).view(np.uint8)
        contours = cv2.findContours(
            cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))[-2]
        largest = contours[0] if len(contours) == 1 else max(contours, key=cv2.contourArea)
        # OpenCV's contours run counter-clockwise on the screen.
        outlines.append(cv2.approxPolyDP(largest, tolerance, True)[::-1, 0])
    return outlines


def _are_simple(points: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns for each polygon, given their lengths, whether it is simple, bool (N,)."""
    # Only needed for polygons, and slow to import.
    import shapely

    simple = lengths > 2
    if not simple.any():
        return simple
    owners = np.repeat(np.arange(len(lengths)), lengths)
    rings = shapely.linearrings(points[simple[owners]].astype(np.float64),
                                indices=np.repeat(np.arange(simple.sum()), lengths[simple]))
    simple[simple] = shapely.is_simple(rings)
    return simple


def detect(
    score_maps: np.ndarray,
    image_size: Tuple[int, int],
    seg_map_thresh: float = Thresholds().seg_map_thresh,
    min_area_thresh: int = Thresholds().min_area_thresh,
) -> np.ndarray:
    """Finds the rectangle of every text in the network's output.

    Args:
        score_maps: float32 (h, w, K), 0..1, smallest kernel first. Unchanged.
        image_size: (width, height) of the network's input in pixels, at least that of the maps.
        seg_map_thresh: pixels with a score above this belong to a kernel, 0..1.
        min_area_thresh: seeds with fewer score-map pixels are dropped.

    Returns:
        float32 (N, 4, 2), x, y in pixels of the network's input: the minimum-area rectangle of each
        label after nearest-neighbour upsampling to that size.

    Raises:
        ValueError: an argument has an invalid type, shape or value.
    """
    labels, count = _expand(score_maps, Thresholds(seg_map_thresh, min_area_thresh))
    return label_rectangles(labels, count, image_size)


def label_rectangles(
    labels: np.ndarray, num_labels: int, image_size: Tuple[int, int]
) -> np.ndarray:
    """Fits a minimum-area rectangle to each label, as if the labels were upsampled to image_size.

    The outer pixels of each row have the same convex hull as the whole label; so the map is scanned
    once for all labels and not upsampled.

    Args:
        labels: int32 (h, w), values 0..num_labels; 0 is background; every label has a pixel.
        num_labels: the largest label.
        image_size: (width, height), at least that of the labels.

    Returns:
        float32 (num_labels, 4, 2), x, y, in the order of the labels.

    Raises:
        ValueError: image_size is smaller than the labels, or a label is out of range.
    """
    return _rectangles(_Extents.of(labels, num_labels, image_size))


class _Extents(NamedTuple):
    """Extents of labels in the map, and of the map's rows and columns in the network's input.

    rows: int32 (R, 4), from ``row_extents``: label, y, first x, last x.
    ends: int64 (num_labels + 1,), 0, then the end of each label's rows.
    left, right, top, bottom: int32, first and last pixel of a column or row.
    """

    rows: np.ndarray
    ends: np.ndarray
    left: np.ndarray
    right: np.ndarray
    top: np.ndarray
    bottom: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, num_labels: int, image_size: Tuple[int, int]) -> '_Extents':
        """Scans a label map; see ``label_rectangles`` for arguments and errors."""
        height, width = labels.shape
        if image_size[0] < width or image_size[1] < height:
            raise ValueError(
                f'image_size {tuple(image_size)} is smaller than the maps {width, height}')
        rows = row_extents(labels, num_labels)
        ends = np.searchsorted(rows[:, 0], np.arange(num_labels + 1), side='right')
        return cls(rows, ends, *_enlarged_spans(width, image_size[0]),
                   *_enlarged_spans(height, image_size[1]))


def _rectangles(extents: _Extents) -> np.ndarray:
    _, rows, first, last = extents.rows.T
    left, right = extents.left[first], extents.right[last]
    top, bottom = extents.top[rows], extents.bottom[rows]
    points = np.stack([left, top, right, top, left, bottom, right, bottom], axis=1)
    quads = [
        cv2.boxPoints(cv2.minAreaRect(points[start:end].reshape(-1, 2)))
        for start, end in zip(extents.ends, extents.ends[1:])
    ]
    return np.array(quads, np.float32).reshape(-1, 4, 2)


@functools.lru_cache(maxsize=16)  # the images of a run have few sizes
def _enlarged_spans(source: int, target: int) -> Tuple[np.ndarray, np.ndarray]:
    """Computes the first and last target pixel of each source pixel, int32 (source,) each.

    Target pixel t shows source pixel floor(t * source / target), as with cv2.INTER_NEAREST except
    for rounding at fractional ratios; the network's ratio is 4.
    """
    borders = -(-np.arange(source + 1) * target // max(source, 1))
    return borders[:-1].astype(np.int32), (borders[1:] - 1).astype(np.int32)


def to_original(quads: np.ndarray, geometry: Geometry, min_box_side: int = 0,
                ) -> Tuple[np.ndarray, np.ndarray]:
    """Maps boxes from the network's input to the original image, and drops small ones.

    Args:
        quads: float32 (N, 4, 2), x, y in pixels of the network's input. Unchanged.
        geometry: sizes of the image.
        min_box_side: pixels of the original image; values below MIN_SIDE have no effect.

    Returns:
        boxes: int32 (M, 4, 2), x, y in pixels of the original image, clipped to 0..width,
            0..height and truncated; points clockwise (y downwards), as scoring requires. Boxes with
            |p0 p1| or |p3 p0| below min_box_side or MIN_SIDE are dropped.
        kept: int64 (M,), indices of the boxes that are kept.
    """
    boxes = _in_image(quads, geometry)
    sides = np.linalg.norm(boxes[:, [1, 0]] - boxes[:, [0, 3]], axis=2)
    kept = np.flatnonzero((sides >= max(MIN_SIDE, min_box_side)).all(axis=1))
    return clockwise(boxes[kept]), kept


def _in_image(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps points (..., 2) to the original image, clips them to it, and truncates to int32."""
    return np.clip(points / np.asarray(geometry.ratios, np.float32), 0,
                   np.asarray(geometry.image_size, np.float32)).astype(np.int32)


def clockwise(boxes: np.ndarray) -> np.ndarray:
    """Reverses boxes that run counter-clockwise on the screen; the first point stays first.

    Args:
        boxes: int32 (N, 4, 2), x, y with y downwards. Unchanged.

    Returns:
        int32 (N, 4, 2); the sum over edges of (x2 - x1)(y2 + y1) is not positive, as ICDAR's
        scoring requires.
    """
    points = boxes.astype(np.int64)
    following = np.roll(points, -1, axis=1)
    steps = (following[..., 0] - points[..., 0]) * (following[..., 1] + points[..., 1])
    backwards = steps.sum(axis=1) > 0
    return np.where(backwards[:, None, None], boxes[:, [0, 3, 2, 1]], boxes)
