"""Kernels and masks equal the reference's to the bit, for polygons of any number of points."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.data_provider.targets import generate_seg, shrink_polygon, soft_targets
from utils.geometry import perimeter, signed_area, validate_polygons
from utils.utils_tool import cfg

SQUARE = np.array([[10, 10], [90, 10], [90, 90], [10, 90]], np.float32)
STAR = np.array([[50, 5], [61, 38], [95, 38], [67, 58], [78, 92], [50, 71], [22, 92], [33, 58],
                 [5, 38], [39, 38]], np.float32)


# Images of each file; in the small ones, coordinates are fractions.
REFERENCES = [(name, image) for name, images in
              [('reference_targets.npz', [1, 10, 61, 108, 200, 302]),
               ('reference_targets_small.npz', [23, 45, 91, 134, 268, 377])] for image in images]


def _expected(reference, image):
    height, width = reference[f'size_{image}']
    maps = np.unpackbits(reference[f'maps_{image}'])[:height * width * cfg.NUM_KERNELS]
    mask = np.unpackbits(reference[f'mask_{image}'])[:height * width]
    return maps.reshape(height, width, cfg.NUM_KERNELS), mask.reshape(height, width)


@pytest.mark.parametrize(('name', 'image'), REFERENCES)
@pytest.mark.parametrize('turn', ['as stored', 'reversed'])
def test_equal_to_the_reference(data_dir, name, image, turn):
    with np.load(str(data_dir / name)) as stored:
        reference = dict(stored)
    polygons = reference[f'polys_{image}']
    if turn == 'reversed':
        polygons = polygons[:, ::-1]
    size = tuple(int(side) for side in reference[f'size_{image}'])
    seg_maps, mask = generate_seg(size, polygons, reference[f'ignore_{image}'])
    maps_expected, mask_expected = _expected(reference, image)
    assert (seg_maps.dtype, mask.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(seg_maps, maps_expected)
    np.testing.assert_array_equal(mask, mask_expected)


def test_a_square_shrinks_by_the_formula():
    # A = 6400, L = 320, r = 0.5: d = 6400 * 0.75 / 320 = 15.
    (kernel,), = shrink_polygon(SQUARE, [0.5])
    assert (kernel.min(), kernel.max()) == (25, 75)
    seg_maps, mask = generate_seg((100, 100), [SQUARE], [False])
    assert [seg_maps[..., index].sum() for index in (0, 5)] == [51 ** 2, 81 ** 2]
    assert mask.all()


def test_a_region_shrinks_by_the_area_of_its_truncated_points():
    # A = 10 * 6, L = 2 (10.9 + 6.9), r = 0.5: d = 1.26. The untruncated area would give 1.58, which
    # Clipper rounds to the next pixel.
    region = np.array([[10, 10], [20.9, 10], [20.9, 16.9], [10, 16.9]], np.float32)
    (kernel,), = shrink_polygon(region, [0.5])
    assert (kernel.min(axis=0).tolist(), kernel.max(axis=0).tolist()) == ([11, 11], [19, 15])


def test_nothing_to_draw_is_all_background():
    seg_maps, mask = generate_seg((8, 12), [], [])
    assert seg_maps.shape == (8, 12, 6)
    assert not seg_maps.any()
    assert mask.shape == (8, 12)
    assert mask.all()


def test_an_ignored_region_is_cut_out_of_the_mask_alone():
    seg_maps, mask = generate_seg((100, 100), [STAR], np.array([True]))
    assert not seg_maps.any()
    inside = cv2.fillPoly(np.zeros((100, 100), np.uint8), [STAR.astype(np.int32)], 1)
    np.testing.assert_array_equal(mask, 1 - inside)


@pytest.mark.parametrize('polygon', [
    [[10, 10], [60, 10], [60, 10.5], [10, 10.5]],
    [[10, 10], [60, 60], [35, 35]],
    [[10, 10], [10, 10], [10, 10]],
], ids=['thin', 'a line', 'a point'])
def test_a_region_that_vanishes_is_ignored(polygon):
    polygon = np.array(polygon, np.float32)
    seg_maps, mask = generate_seg((80, 80), [polygon], [False])
    assert not seg_maps.any()
    assert mask[10, 10] == 0


def test_the_parts_that_a_region_falls_into_are_all_drawn():
    dumbbell = np.array([[0, 0], [40, 0], [40, 18], [80, 18], [80, 0], [120, 0], [120, 40],
                         [80, 40], [80, 22], [40, 22], [40, 40], [0, 40]], np.float32)
    kernels, = shrink_polygon(dumbbell, [0.5])
    assert len(kernels) == 2
    seg_maps, _ = generate_seg((41, 121), [dumbbell], [False])
    assert cv2.connectedComponents(np.ascontiguousarray(seg_maps[..., 0]))[0] == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(hnp.arrays(np.float32, st.tuples(st.integers(3, 10), st.just(2)),
                           elements=st.floats(-20, 120, width=32)), max_size=4),
       st.integers(0, 2 ** 4 - 1))
def test_any_polygons_give_binary_maps_of_the_size(polygons, tags):
    polygons, _ = validate_polygons(polygons, (90, 100))
    tags = [bool(tags >> index & 1) for index in range(len(polygons))]
    seg_maps, mask = generate_seg((90, 100), polygons, tags)
    assert seg_maps.shape == (90, 100, 6)
    assert mask.shape == (90, 100)
    assert max(seg_maps.max(), mask.max()) <= 1
    if all(tags):
        assert not seg_maps.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 20), st.floats(8, 40), st.floats(0, 6))
def test_kernels_of_a_convex_region_are_nested(points, radius, turn):
    angles = turn + np.arange(points) * 2 * np.pi / points
    polygon = (50 + radius * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32)
    if abs(signed_area(polygon)) < perimeter(polygon):
        return
    seg_maps, _ = generate_seg((100, 100), [polygon], [False])
    for smaller, larger in zip(seg_maps.transpose(2, 0, 1), seg_maps.transpose(2, 0, 1)[1:]):
        # Rounding to whole pixels may let a corner stick out by one.
        assert (smaller <= cv2.dilate(np.ascontiguousarray(larger), np.ones((3, 3)))).all()


def test_soft_cells_have_the_mean_of_their_pixels():
    # A pixel's middle is a whole number: from 10 to 41 the square has 32 pixels.
    square = np.float32([[10, 10], [41, 10], [41, 41], [10, 41]])
    maps, mask = soft_targets((64, 64), [square], [False])
    assert maps.dtype == mask.dtype == np.uint8
    assert mask.all()
    whole = maps[..., -1]
    assert whole[3:10, 3:10].min() == 16
    assert (whole[2, 4], whole[2, 2], whole[10, 5], whole[12, 12]) == (8, 4, 8, 0)
    assert whole.sum() == 32 * 32
    # Each ratio's area is the square of its share, up to rounded corners.
    areas = maps.sum(axis=(0, 1), dtype=int) / 1024
    assert (np.diff(areas) > 0).all()


def test_soft_outlines_lie_between_pixels():
    areas = [soft_targets((64, 64), [np.float32([[10, 10], [50, 10], [50, 30 + part],
                                                 [10, 30 + part]])], [False])[0][..., -1].sum()
             for part in (0, 0.25, 0.5, 0.75, 1)]
    assert areas == sorted(areas)
    assert areas[-1] > areas[0]


def test_words_that_cannot_be_learnt_are_cut_out_of_the_soft_mask():
    thin = np.float32([[10, 10], [50, 10], [50, 13.5], [10, 13.5]])
    seedless = np.float32([[10, 30], [16, 30], [16, 35], [10, 35]])
    ignored = np.float32([[30, 40], [60, 40], [60, 60], [30, 60]])
    maps, mask = soft_targets((64, 64), [thin, seedless, ignored], [False, False, True])
    assert not maps.any()
    assert not mask[3, 4]
    assert not mask[8, 3]
    assert not mask[12, 10]
    # A cell counts only as a whole.
    assert not mask[10, 7]
    assert mask[0].all()


def test_polygons_may_reach_out_of_the_soft_maps():
    maps, mask = soft_targets((32, 32), [np.float32([[-20, 5], [20, 5], [20, 25], [-20, 25]]),
                                         np.float32([[-90, 5], [-50, 5], [-50, 25]])], [False] * 2)
    assert maps[3, 0, -1] == 16
    assert maps[3, 0, 0] == 16
    assert mask.all()
