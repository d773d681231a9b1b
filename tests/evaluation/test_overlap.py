"""Areas against exact values, and against a slow rational oracle on quads of every kind."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.overlap import bounding_overlaps, intersection_areas, signed_areas

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
BOWTIE = [[0, 0], [10, 10], [10, 0], [0, 10]]
DART = [[0, 0], [10, 5], [0, 10], [4, 5]]
LINE = [[0, 0], [10, 10], [5, 5], [2, 2]]
POINT = [[5, 5]] * 4


def intersection(first, second):
    return float(intersection_areas(np.array([first]), np.array([second]))[0])


def shifted(quad, x, y):
    return (np.array(quad) + [x, y]).tolist()


def exact_intersection(first, second):
    """Even-odd area by slabs between all heights at which something changes, in rationals."""
    edges = [[(quad[i], quad[(i + 1) % 4]) for i in range(4)] for quad in (first, second)]
    heights = sorted(_heights(edges[0] + edges[1]))
    return float(sum((low_to_high(edges, low, high) for low, high in zip(heights, heights[1:])),
                     Fraction(0)))


def low_to_high(edges, low, high):
    middle = (low + high) / 2
    inside = [sorted(_crossings(of_quad, middle)) for of_quad in edges]
    cuts = sorted(inside[0] + inside[1])
    width = sum((right - left for left, right in zip(cuts, cuts[1:])
                 if all(_odd(xs, (left + right) / 2) for xs in inside)), Fraction(0))
    return width * (high - low)


def _odd(crossings, x):
    return sum(crossing < x for crossing in crossings) % 2 == 1


def _crossings(edges, y):
    return [Fraction(a[0]) + (y - a[1]) * Fraction(b[0] - a[0], b[1] - a[1])
            for a, b in edges if min(a[1], b[1]) < y < max(a[1], b[1])]


def _heights(edges):
    heights = {Fraction(a[1]) for a, _ in edges}
    for index, (a, b) in enumerate(edges):
        for c, d in edges[:index]:
            slope = (b[0] - a[0]) * (d[1] - c[1]) - (b[1] - a[1]) * (d[0] - c[0])
            if slope:
                t = Fraction((c[0] - a[0]) * (d[1] - c[1]) - (c[1] - a[1]) * (d[0] - c[0]), slope)
                if 0 <= t <= 1:
                    heights.add(a[1] + t * (b[1] - a[1]))
    return heights


def test_signed_area_is_positive_clockwise_in_the_image():
    quads = np.array([SQUARE, SQUARE[::-1], BOWTIE, DART, POINT])
    np.testing.assert_array_equal(signed_areas(quads), [100, -100, 0, 30, 0])


def test_signed_area_is_minus_half_the_protocols_sum():
    quads = np.random.RandomState(0).randint(-99, 99, (50, 4, 2))
    following = np.roll(quads, -1, axis=1)
    sums = ((following[..., 0] - quads[..., 0]) * (following[..., 1] + quads[..., 1])).sum(axis=1)
    np.testing.assert_array_equal(signed_areas(quads), -sums / 2)


@pytest.mark.parametrize('first, second, area', [
    (SQUARE, SQUARE, 100),
    (SQUARE, SQUARE[::-1], 100),
    (SQUARE, shifted(SQUARE, 5, 0), 50),
    (SQUARE, shifted(SQUARE, 7, 6), 12),
    (SQUARE, shifted(SQUARE, 10, 0), 0),        # a side in common
    (SQUARE, shifted(SQUARE, 10, 10), 0),       # a corner in common
    (SQUARE, shifted(SQUARE, 30, 0), 0),
    (SQUARE, [[5, -5], [15, 5], [5, 15], [-5, 5]], 100),
    (SQUARE, [[5, 0], [10, 5], [5, 10], [0, 5]], 50),
    (SQUARE, [[0, 0], [10, 0], [10, 10], [10, 10]], 50),
    (SQUARE, DART, 30),
    (SQUARE, BOWTIE, 50),                       # even-odd: both lobes, though its area is 0
    (BOWTIE, BOWTIE, 50),
    (DART, DART, 30),
    (BOWTIE, [[0, 0], [10, 0], [10, 5], [0, 5]], 25),
    (SQUARE, POINT, 0),
    (SQUARE, LINE, 0),
    (LINE, LINE, 0),
    (POINT, POINT, 0),
    (BOWTIE, LINE, 0),
])
def test_known_intersections(first, second, area):
    assert intersection(first, second) == pytest.approx(area, abs=1e-12)
    assert intersection(second, first) == pytest.approx(area, abs=1e-12)


def test_oracle_knows_them_too():
    assert exact_intersection(SQUARE, BOWTIE) == 50
    assert exact_intersection(DART, DART) == 30


def test_general_clipping_libraries_fail_on_this_pair():
    first, second = [[2, 0], [-1, -1], [0, 2], [1, 2]], [[-1, -1], [-2, 2], [2, 1], [0, 2]]
    assert intersection(first, second) == pytest.approx(exact_intersection(first, second))


def quads_within(limit):
    point = st.tuples(st.integers(-limit, limit), st.integers(-limit, limit))
    return st.lists(point, min_size=4, max_size=4)


@settings(max_examples=300, deadline=None)
@given(quads_within(4), quads_within(4))
@example([(0, 0), (4, 0), (0, 0), (4, 4)], [(0, 0), (4, 4), (4, 0), (0, 4)])
def test_small_quads_of_every_kind_agree_with_the_oracle(first, second):
    """On a small grid nearly every pair has points, lines or whole edges in common."""
    assert intersection(first, second) == pytest.approx(exact_intersection(first, second), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(quads_within(2000), quads_within(2000))
def test_large_quads_of_every_kind_agree_with_the_oracle(first, second):
    exact = exact_intersection(first, second)
    assert intersection(first, second) == pytest.approx(exact, rel=1e-9, abs=1e-6)


def test_largest_coordinates_keep_their_digits():
    side = 9999999
    large = [[-side, -side], [side, -side], [side, side], [-side, side]]
    assert intersection(large, large) == 4.0 * side * side
    corner = shifted(SQUARE, side - 10, side - 10)
    assert intersection(large, corner) == pytest.approx(100, abs=1e-6)
    assert intersection(corner, large) == pytest.approx(100, abs=1e-6)


def test_many_pairs_equal_one_by_one():
    random = np.random.RandomState(3)
    first, second = random.randint(0, 30, (2, 5000, 4, 2))
    together = intersection_areas(first, second)
    for index in range(0, 5000, 97):
        assert together[index] == pytest.approx(intersection(first[index], second[index]), abs=1e-9)


def test_no_pairs():
    none = np.zeros((0, 4, 2), np.int64)
    assert intersection_areas(none, none).shape == (0,)
    assert signed_areas(none).shape == (0,)


def test_bounding_boxes_bound_the_intersection():
    random = np.random.RandomState(4)
    first, second = random.randint(0, 20, (2, 2000, 4, 2))
    every = np.arange(2000)
    bounds = bounding_overlaps(first, second, every, every)
    assert (intersection_areas(first, second) <= bounds + 1e-9).all()
    assert bounding_overlaps(first, second, every[:0], every[:0]).shape == (0,)


def convex_quad(rng):
    """Four corners on a random ellipse, which is anywhere and of any size."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 4))
    radii = rng.uniform(2, 200, 2)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    return np.rint(points + rng.uniform(0, 200, 2)).astype(int)


def test_areas_are_those_of_polygon3_on_convex_quads():
    Polygon = pytest.importorskip('Polygon', reason='Polygon3 is not installed').Polygon

    rng = np.random.RandomState(0)
    first, second = (np.array([convex_quad(rng) for _ in range(2000)]) for _ in range(2))
    found = intersection_areas(first, second)
    expected = [(Polygon(one.tolist()) & Polygon(other.tolist())).area()
                for one, other in zip(first, second)]
    assert np.mean(np.array(expected) > 0) > 0.3
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(np.abs(signed_areas(first)),
                               [Polygon(one.tolist()).area() for one in first], rtol=1e-12)
