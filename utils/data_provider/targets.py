"""Training targets from polygons: six nested kernels and a training mask.

The reference draws kernels on whole pixels and samples every fourth pixel, 1.5 pixels off the
centre of its cell, which shifts the detected boxes. ``soft_targets`` draws them with subpixel
precision and averages the pixels of each cell.

Paper, section 3.3: the kernel of ratio r is the text polygon shrunk with the Vatti clipping
algorithm by d = A (1 - r^2) / L. As in the reference, A is the area of the points truncated to
integers, as Clipper sees them, and L is the perimeter of the original points.
"""

from typing import List, Sequence, Tuple

import cv2
import numpy as np
import pyclipper

from utils.geometry import perimeter, truncated_area
from utils.utils_tool import cfg


def shrink_polygon(polygon: np.ndarray, ratios: Sequence[float]) -> List[List[np.ndarray]]:
    """Shrinks a polygon to several ratios.

    Args:
        polygon: numbers (P, 2), x and y; Clipper truncates them to integers.
        ratios: shrink ratios r; 1 changes nothing except that Clipper removes repeated and
            collinear points and self-intersections.

    Returns:
        For each ratio a list of polygons, int32 (P', 2) each: empty if the region is too thin,
        several if it falls apart.
    """
    length = perimeter(polygon)
    if length == 0:
        return [[] for _ in ratios]
    area = truncated_area(polygon)
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(polygon.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    # r = 1 is offset as well: Clipper's cleanup affects the reference's maps.
    return [[np.array(path, np.int32) for path in offset.Execute(-area * (1 - ratio ** 2) / length)]
            for ratio in ratios]


def generate_seg(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: Sequence[bool],
                 ) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the ground truth of one image.

    Regions that are tagged, or that vanish when shrunk, are not drawn in the maps but cut out of
    the training mask.

    Args:
        size: (height, width) of the maps.
        polygons: float32 (P, 2) each, x and y in pixels of the maps.
        ignore_tags: bool, one per polygon.

    Returns:
        seg_maps: uint8 (height, width, 6), 1 inside the kernels of cfg.KERNEL_SCALES, smallest
            kernel first; a view of six planes, as OpenCV draws on planes.
        training_mask: uint8 (height, width), 0 where the loss ignores the pixel, else 1.
    """
    planes = np.zeros((cfg.NUM_KERNELS,) + tuple(size), np.uint8)
    training_mask = np.ones(size, np.uint8)
    for polygon, ignored in zip(polygons, ignore_tags):
        kernels = [] if ignored else shrink_polygon(polygon, cfg.KERNEL_SCALES)
        if not kernels or not all(kernels):
            cv2.fillPoly(training_mask, [polygon.astype(np.int32)], 0)
            continue
        for plane, parts in zip(planes, kernels):
            cv2.fillPoly(plane, parts, 1)
    return planes.transpose(1, 2, 0), training_mask


# Input pixels of a score map cell, the maximum of soft targets.
CELL_PIXELS = cfg.STRIDE ** 2
# Outlines are drawn with a precision of 2 ** -_SHIFT pixels.
_SHIFT = 3
# Words with a shorter side, in pixels of the input, are illegible and ignored.
_MIN_WORD_SIDE = 4
# Area of the smallest kernel, in pixels of the input: one cell.
_MIN_SEED_AREA = CELL_PIXELS


def soft_targets(size: Tuple[int, int], polygons: Sequence[np.ndarray],
                 ignore_tags: Sequence[bool]) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the ground truth of one image with soft edges, at the size of the score maps.

    Args:
        size: (height, width) of the network's input, multiples of cfg.STRIDE.
        polygons: float32 (P, 2) each, x and y in pixels of the input, with pixel centres at whole
            numbers; points may lie outside.
        ignore_tags: bool, one per polygon.

    Returns:
        seg_maps: uint8 (height / 4, width / 4, 6), the number of a cell's 16 pixels in each
            kernel, smallest kernel first.
        training_mask: uint8 (height / 4, width / 4), 1 where the loss uses the cell, else 0;
            regions that are tagged or too small are cut out.
    """
    planes = np.zeros((cfg.NUM_KERNELS,) + tuple(size), np.uint8)
    training_mask = np.full(size, CELL_PIXELS, np.uint8)
    for polygon, ignored in zip(polygons, ignore_tags):
        fine = np.rint(polygon * 2 ** _SHIFT).astype(np.int32)
        kernels = [] if ignored else _fine_kernels(fine)
        if not kernels:
            cv2.fillPoly(training_mask, [fine], 0, shift=_SHIFT)
            continue
        for plane, parts in zip(planes, kernels):
            cv2.fillPoly(plane, parts, CELL_PIXELS, shift=_SHIFT)
    small = (size[1] // cfg.STRIDE, size[0] // cfg.STRIDE)
    # Means of 16 pixels of 0 or 16 are whole numbers.
    seg_maps = np.stack([cv2.resize(plane, small, interpolation=cv2.INTER_AREA)
                         for plane in planes], axis=2)
    whole = cv2.resize(training_mask, small, interpolation=cv2.INTER_AREA) == CELL_PIXELS
    return seg_maps, whole.astype(np.uint8)


def _fine_kernels(fine: np.ndarray) -> List[List[np.ndarray]]:
    """Returns the kernels of a word in fractions of a pixel; empty if the word is too small."""
    unit = 2 ** _SHIFT
    if min(cv2.minAreaRect(fine)[1]) < _MIN_WORD_SIDE * unit:
        return []
    kernels = shrink_polygon(fine, cfg.KERNEL_SCALES)
    seed = sum(cv2.contourArea(part) for part in kernels[0])
    return kernels if all(kernels) and seed >= _MIN_SEED_AREA * unit ** 2 else []
