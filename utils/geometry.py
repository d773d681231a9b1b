"""Plane geometry of text regions.

A polygon is an array of points, shape (P, 2) with P >= 3, x before y, in pixels of an image whose y
axis points down. Several polygons are a list of such arrays, or one array (N, P, 2) if all of them
have P points.
"""

from typing import List, Sequence, Tuple

import numpy as np

# Regions below this area, in square pixels, are annotation errors.
_MIN_AREA = 1.0


def signed_area(polygon: np.ndarray) -> float:
    """Computes the area of a polygon by the shoelace formula.

    Args:
        polygon: numbers (P, 2), x and y.

    Returns:
        Square pixels; positive if the points are clockwise on the screen (y down).
    """
    x, y = np.asarray(polygon, np.float64).T
    # Relative to one point, as coordinates far from the origin would cost precision.
    x, y = x - x[0], y - y[0]
    return float(x @ _following(y) - y @ _following(x)) / 2


def truncated_area(polygon: np.ndarray) -> float:
    """Computes the area of a polygon whose points are truncated to integers.

    The reference passes its points to Clipper as integers, so this area determines which regions
    are valid and how far each is shrunk.

    Args:
        polygon: numbers (P, 2), x and y.

    Returns:
        Square pixels, not negative.
    """
    return abs(signed_area(np.trunc(polygon)))


def perimeter(polygon: np.ndarray) -> float:
    """Adds up the lengths of the edges, including the closing one.

    Args:
        polygon: numbers (P, 2), x and y.

    Returns:
        Pixels.
    """
    points = np.asarray(polygon, np.float64)
    return float(np.hypot(*(points - _following(points)).T).sum())


def _following(values: np.ndarray) -> np.ndarray:
    """Returns the successor of each point; np.roll is much slower."""
    return np.concatenate([values[1:], values[:1]])


def clip_to_image(polygon: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Moves each point outside the image to the nearest pixel centre inside.

    Args:
        polygon: numbers (P, 2), x and y.
        size: (height, width) of the image.

    Returns:
        float32 (P, 2), x in [0, width - 1], y in [0, height - 1].
    """
    height, width = size
    return np.clip(polygon, 0, (width - 1, height - 1)).astype(np.float32)


def orient_clockwise(polygon: np.ndarray) -> np.ndarray:
    """Orders the points clockwise on the screen; the first point stays first.

    Args:
        polygon: array (P, 2), x and y.

    Returns:
        The points, same dtype and shape.
    """
    if signed_area(polygon) >= 0:
        return polygon
    return np.roll(polygon[::-1], 1, axis=0)


def validate_polygons(polygons: Sequence[np.ndarray], size: Tuple[int, int],
                      ) -> Tuple[List[np.ndarray], np.ndarray]:
    """Clips polygons to the image, drops those without area, and orients the others clockwise.

    A polygon has no area if that of its points, truncated to integers, is below one pixel.

    Args:
        polygons: arrays (P, 2) of finite numbers, x and y.
        size: (height, width) of the image.

    Returns:
        The valid polygons, float32 (P, 2) each, clockwise; and bool (N,), True for the given
        polygons that are valid.
    """
    clipped = [clip_to_image(polygon, size) for polygon in polygons]
    valid = np.array([truncated_area(polygon) >= _MIN_AREA for polygon in clipped], np.bool_)
    return [orient_clockwise(polygon) for polygon, keep in zip(clipped, valid) if keep], valid


def bounds(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Finds the upright box around each polygon.

    Args:
        polygons: arrays (P, 2), x and y.

    Returns:
        float32 (N, 4): smallest x, smallest y, largest x, largest y.
    """
    if not len(polygons):
        return np.empty((0, 4), np.float32)
    # One call for all points is faster than a call per polygon.
    points = np.concatenate(polygons)
    starts = np.cumsum([0] + [len(polygon) for polygon in polygons[:-1]])
    lows, highs = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    return np.concatenate([lows, highs], axis=1).astype(np.float32)
