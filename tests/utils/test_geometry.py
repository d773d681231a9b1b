"""Areas, lengths and validity of polygons, exact on small ones and as invariants on any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.geometry import (
    bounds,
    clip_to_image,
    orient_clockwise,
    perimeter,
    signed_area,
    truncated_area,
    validate_polygons,
)

SQUARE = np.array([[1, 1], [5, 1], [5, 4], [1, 4]], np.float32)
HEXAGON = np.array([[2, 0], [4, 0], [6, 2], [4, 4], [2, 4], [0, 2]], np.float32)
POLYGONS = hnp.arrays(np.float32, st.tuples(st.integers(3, 12), st.just(2)),
                      elements=st.floats(-500, 500, width=32))


def test_area_is_positive_for_points_clockwise_on_the_screen():
    assert signed_area(SQUARE) == 12
    assert signed_area(SQUARE[::-1]) == -12
    assert signed_area(HEXAGON) == 16


def test_area_keeps_its_digits_far_from_the_origin():
    assert signed_area(SQUARE + np.float32(2 ** 19)) == 12


def test_perimeter_closes_the_polygon():
    assert perimeter(SQUARE) == 14
    assert perimeter(HEXAGON) == pytest.approx(4 + 4 * np.sqrt(8))


def test_clipping_moves_points_to_the_last_pixels():
    clipped = clip_to_image(np.array([[-3, 2], [20, 2], [5, 99]], np.float32), (8, 10))
    np.testing.assert_array_equal(clipped, [[0, 2], [9, 2], [5, 7]])
    assert clipped.dtype == np.float32


def test_orientation_keeps_the_first_point():
    turned = orient_clockwise(SQUARE[[0, 3, 2, 1]])
    np.testing.assert_array_equal(turned, SQUARE)
    np.testing.assert_array_equal(orient_clockwise(SQUARE), SQUARE)


def test_validation_takes_polygons_of_different_lengths():
    triangle = np.array([[0, 0], [0, 3], [3, 0]], np.float32)
    outside = SQUARE + 100
    speck = np.array([[0, 0], [1, 0], [1, 0.9]], np.float32)
    given_polygons = [triangle, outside, HEXAGON, speck]
    polygons, valid = validate_polygons(given_polygons, (10, 10))
    assert valid.tolist() == [True, False, True, False]
    assert [polygon.shape for polygon in polygons] == [(3, 2), (6, 2)]
    np.testing.assert_array_equal(given_polygons[0], [[0, 0], [0, 3], [3, 0]])


def test_no_polygons_are_valid_and_have_no_bounds():
    polygons, valid = validate_polygons([], (10, 10))
    assert (polygons, valid.shape, valid.dtype) == ([], (0,), np.bool_)
    assert bounds([]).shape == (0, 4)


def test_a_region_without_area_when_truncated_is_dropped():
    # 1.8 square pixels as it is, none between (3, 3) and (3, 4).
    thin = np.array([[3.1, 3.1], [3.9, 3.1], [3.9, 5.4], [3.1, 5.4]], np.float32)
    assert signed_area(thin) > 1
    assert validate_polygons([thin], (10, 10))[1].tolist() == [False]


def test_an_array_of_polygons_is_a_list_of_them():
    polygons, valid = validate_polygons(np.stack([SQUARE, SQUARE[::-1]]), (10, 10))
    assert valid.all()
    assert len(polygons) == 2


def test_bounds_are_the_extremes():
    np.testing.assert_array_equal(bounds([SQUARE, HEXAGON]), [[1, 1, 5, 4], [0, 0, 6, 4]])


@given(POLYGONS, st.integers(1, 400), st.integers(1, 400))
def test_valid_polygons_lie_inside_clockwise_and_stay_valid(polygon, height, width):
    polygons, valid = validate_polygons([polygon], (height, width))
    assert len(polygons) == valid.sum()
    for kept in polygons:
        assert signed_area(kept) >= 0
        assert truncated_area(kept) >= 1
        assert (kept >= 0).all()
        assert (kept <= (width - 1, height - 1)).all()
        again, _ = validate_polygons([kept], (height, width))
        np.testing.assert_array_equal(again[0], kept)


@given(POLYGONS, st.integers(0, 11))
def test_area_and_perimeter_do_not_depend_on_the_first_point(polygon, shift):
    rolled = np.roll(polygon, shift, axis=0)
    assert signed_area(rolled) == pytest.approx(signed_area(polygon), abs=1e-6)
    assert perimeter(rolled) == pytest.approx(perimeter(polygon), abs=1e-6)
