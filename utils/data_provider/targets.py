"""Polygons to training targets: six nested kernels and a training mask.

The reference draws them on whole pixels and takes every fourth of these, which lies 1.5 pixels off
the cell's middle: a fault that its boxes bear. ``soft_targets`` are drawn at a fraction of a pixel,
and each cell has the mean of its pixels.

Paper, section 3.3: the kernel of ratio r is the text polygon shrunk with the Vatti clipping
algorithm by d = A (1 - r^2) / L. As in the reference, A is the area of the points truncated to
integers, which is how Clipper takes them, and L the perimeter of the points as they are.
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
        ratios: shrink ratios r; 1 leaves the polygon as it is, up to Clipper's clean-up of
            repeated and collinear points and of self-crossings.

    Returns:
        A list a ratio of the polygons that are left, int32 (P', 2) each: none where the region is
        too thin, several where it falls apart.
    """
    length = perimeter(polygon)
    if length == 0:
        return [[] for _ in ratios]
    area = truncated_area(polygon)
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(polygon.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    # r = 1 goes through the offset as well: its clean-up is part of the reference's maps.
    return [[np.array(path, np.int32) for path in offset.Execute(-area * (1 - ratio ** 2) / length)]
            for ratio in ratios]


def generate_seg(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: Sequence[bool],
                 ) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the ground truth of one image.

    A region that is tagged, or that vanishes when it is shrunk, takes part in no map; its place is
    cut out of the training mask instead.

    Args:
        size: (height, width) of the maps.
        polygons: float32 (P, 2) each, x and y in pixels of the maps.
        ignore_tags: bool, one a polygon.

    Returns:
        seg_maps: uint8 (height, width, 6), 1 inside of the kernels of cfg.KERNEL_SCALES, smallest
            kernel first; a view of six planes, for OpenCV draws on planes.
        training_mask: uint8 (height, width), 0 where the loss must not look, else 1.
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


# Pixels of a cell of the score maps: what a cell of soft targets has at most.
CELL_PIXELS = cfg.STRIDE ** 2
# Fractions of a pixel that outlines are drawn with: 2 ** -_SHIFT.
_SHIFT = 3
# A word with a shorter side, in pixels of the input, cannot be read and is not learnt.
_MIN_WORD_SIDE = 4
# Of the smallest kernel, in pixels of the input: one cell.
_MIN_SEED_AREA = CELL_PIXELS


def soft_targets(size: Tuple[int, int], polygons: Sequence[np.ndarray],
                 ignore_tags: Sequence[bool]) -> Tuple[np.ndarray, np.ndarray]:
    """Draws the ground truth of one image with soft edges, at the score maps' size.

    Args:
        size: (height, width) of the network's input, multiples of cfg.STRIDE.
        polygons: float32 (P, 2) each, x and y in pixels of the input, a pixel's middle being a
            whole number; they may reach out of it.
        ignore_tags: bool, one a polygon.

    Returns:
        seg_maps: uint8 (height / 4, width / 4, 6), how many of a cell's 16 pixels lie in each
            kernel, smallest kernel first.
        training_mask: uint8 (height / 4, width / 4), 1 where the loss looks at all of a cell, else
            0; regions that are tagged, too small, or without a kernel of a cell are cut out.
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
    # Means of 0 and 16 are whole numbers.
    seg_maps = np.stack([cv2.resize(plane, small, interpolation=cv2.INTER_AREA)
                         for plane in planes], axis=2)
    whole = cv2.resize(training_mask, small, interpolation=cv2.INTER_AREA) == CELL_PIXELS
    return seg_maps, whole.astype(np.uint8)


def _fine_kernels(fine: np.ndarray) -> List[List[np.ndarray]]:
    """The kernels of a word in fractions of a pixel; none where it is too small to be learnt."""
    unit = 2 ** _SHIFT
    if min(cv2.minAreaRect(fine)[1]) < _MIN_WORD_SIDE * unit:
        return []
    kernels = shrink_polygon(fine, cfg.KERNEL_SCALES)
    seed = sum(cv2.contourArea(part) for part in kernels[0])
    return kernels if all(kernels) and seed >= _MIN_SEED_AREA * unit ** 2 else []
