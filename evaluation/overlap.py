"""Vectorised areas of quads and of their intersections, for any four points.

Points are integers, so orientation tests are exact. A quad may be concave, self-crossing, or have
no area; its region is given by the even-odd rule. For such quads general clipping libraries can
crash (GPC) or return wrong areas (GEOS).
"""

from typing import List, Tuple

import numpy as np

_BLOCK = 4096  # pairs computed at once, so that they fit into the processor's cache


def signed_areas(quads: np.ndarray) -> np.ndarray:
    """Computes areas by the shoelace formula; in self-crossing quads opposite parts cancel.

    Args:
        quads: int (N, 4, 2), x, y, y down.

    Returns:
        float64 (N,), positive for clockwise points as seen in the image: minus half the sum over
        the edges of (x2 - x1)(y2 + y1).
    """
    diagonals = quads[:, 2:] - quads[:, :2]
    return (diagonals[:, 0, 0] * diagonals[:, 1, 1] - diagonals[:, 0, 1] * diagonals[:, 1, 0]) / 2


def bounding_overlaps(first: np.ndarray, second: np.ndarray, first_index: np.ndarray,
                      second_index: np.ndarray) -> np.ndarray:
    """Computes intersection areas of bounding boxes, an upper bound for those of the quads.

    Args:
        first: int (A, 4, 2), x, y.
        second: int (B, 4, 2).
        first_index: int (N,), index of the first quad of each pair.
        second_index: int (N,), index of the second quad.

    Returns:
        float64 (N,).
    """
    (left, top), (right, bottom) = _extremes(first)
    (other_left, other_top), (other_right, other_bottom) = _extremes(second)
    width = (np.minimum(right[first_index], other_right[second_index])
             - np.maximum(left[first_index], other_left[second_index]))
    height = (np.minimum(bottom[first_index], other_bottom[second_index])
              - np.maximum(top[first_index], other_top[second_index]))
    return np.maximum(width, 0) * np.maximum(height, 0)


def _extremes(quads: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    points = _planes(quads)
    return points.min(axis=1), points.max(axis=1)


def intersection_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the intersection area of the two quads of each pair.

    Args:
        first: int (N, 4, 2), x, y, in any order of points.
        second: int (N, 4, 2), the other quad of each pair.

    Returns:
        float64 (N,).
    """
    areas = np.empty(len(first), np.float64)
    for start in range(0, len(first), _BLOCK):
        block = slice(start, start + _BLOCK)
        areas[block] = _block_areas(_planes(first[block]), _planes(second[block]))
    return areas


def _planes(quads: np.ndarray) -> np.ndarray:
    """Converts (N, P, 2) to float64 (2, P, N), with the longest axis last for speed."""
    return np.ascontiguousarray(np.transpose(quads, (2, 1, 0)), np.float64)


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[0] * second[1] - first[1] * second[0]


def _edges(polygon: np.ndarray) -> np.ndarray:
    return np.roll(polygon, -1, axis=1) - polygon


def _block_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the intersections (N,) of pairs of float64 (2, 4, N)."""
    # Coordinates relative to a corner of the common bounding box keep rounding errors small.
    origin = np.maximum(first.min(axis=1), second.min(axis=1))[:, np.newaxis]
    areas = np.zeros(first.shape[-1])
    for weight, parts in _convex_terms(first - origin):
        for other_weight, other_parts in _convex_terms(second - origin):
            used = np.flatnonzero(weight * other_weight)
            if used.size:
                common = _common_area([part[..., used] for part in parts + other_parts])
                areas[used] += (weight * other_weight)[used] * common
    return areas


def _convex_terms(quads: np.ndarray) -> List[Tuple[np.ndarray, List[np.ndarray]]]:
    """Decomposes quads (2, 4, N) into weighted sums of intersections of convex polygons.

    A convex quad is its own single term. For any other, the winding number of 0123 around a point
    is w = s T + t U, where T and U are 1 inside the triangles 012 and 023 and s, t are -1, 0 or 1
    by their orientation. A quad has |w| <= 1, so its even-odd region is w^2 = |s| T + |t| U + 2 s t
    T U, in which T U has no area unless s = -t.

    Returns:
        Pairs of weights (N,) and polygons to intersect, each (2, 4, N), clockwise.
    """
    convex = _is_convex(quads)
    first_sign, first_triangle = _triangle(quads[:, [0, 1, 2, 2]])
    second_sign, second_triangle = _triangle(quads[:, [0, 2, 3, 3]])
    return [(convex * 1.0, [quads]),
            (~convex * np.abs(first_sign), [first_triangle]),
            (~convex * np.abs(second_sign), [second_triangle]),
            (~convex * np.minimum(2 * first_sign * second_sign, 0),
             [first_triangle, second_triangle])]


def _is_convex(quads: np.ndarray) -> np.ndarray:
    """Returns True for quads that turn right at every corner and have an area; bool (N,)."""
    edges = _edges(quads)
    turns = _cross(np.roll(edges, 1, axis=1), edges)
    return (turns >= 0).all(axis=0) & (turns > 0).any(axis=0)


def _triangle(corners: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the orientation (N,), 1 for clockwise, and corners (2, 4, N) in clockwise order."""
    sign = np.sign(_cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    return sign, np.where(sign < 0, corners[:, ::-1], corners)


def _common_area(polygons: List[np.ndarray]) -> np.ndarray:
    """Computes the common area (N,) of convex polygons, float64 (2, 4, N), by Green's theorem.

    The boundary of the intersection consists of the parts of each polygon's edges inside all
    others; a shared edge counts for the first polygon only.
    """
    doubled = 0.0
    for index, polygon in enumerate(polygons):
        edges = _edges(polygon)
        enter, leave = np.zeros(edges.shape[1:]), np.ones(edges.shape[1:])
        for other_index, other in enumerate(polygons):
            if other_index != index:
                enter, leave = _clip(polygon, edges, other, enter, leave, index < other_index)
        doubled = doubled + (np.maximum(leave - enter, 0) * _cross(polygon, edges)).sum(axis=0)
    return doubled / 2


def _clip(starts: np.ndarray, edges: np.ndarray, other: np.ndarray, enter: np.ndarray,
          leave: np.ndarray, shared: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Clips the span [enter, leave] of each edge (4, N) to a convex polygon.

    Args:
        starts: start points of the edges, (2, 4, N).
        edges: edge vectors, (2, 4, N).
        other: the convex polygon, (2, 4, N).
        enter: start of the span, 0..1 along the edge, (4, N).
        leave: end of the span.
        shared: whether an edge along an edge of the polygon in the same direction is inside.

    Returns:
        The new spans, empty if leave <= enter.
    """
    sides = _edges(other)[:, np.newaxis]
    edges = edges[:, :, np.newaxis]
    # At t along the edge, distance + t * slope is positive inside the half-plane of a side.
    distance = _cross(sides, starts[:, :, np.newaxis] - other[:, np.newaxis])
    slope = _cross(sides, edges)
    crossing = np.divide(-distance, slope, out=np.zeros_like(slope), where=slope != 0)
    enter = np.maximum(enter, np.where(slope > 0, crossing, 0).max(axis=1))
    leave = np.minimum(leave, np.where(slope < 0, crossing, 1).min(axis=1))
    parallel_outside = (slope == 0) & (distance <= 0) & (sides != 0).any(axis=0)
    if shared:
        parallel_outside &= (distance < 0) | ((sides * edges).sum(axis=0) <= 0)
    return enter, np.where(parallel_outside.any(axis=1), enter, leave)
