"""Post-processing: the reference's boxes, an enlarging oracle, the way to the original image."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapely.geometry import Polygon

from inference.postprocess import (
    MIN_SIDE,
    Geometry,
    Thresholds,
    clockwise,
    detect,
    find_boxes,
    find_polygons,
    find_regions,
    label_rectangles,
    to_original,
)

TOLERANCE = 0.5


def distance(one, other):
    """Hausdorff distance between the outlines of two quads, in pixels."""
    return Polygon(one).exterior.hausdorff_distance(Polygon(other).exterior)


def maps_of(kernel):
    """float32 (h, w, 6): every channel is 1 where the kernel is."""
    return np.repeat(np.asarray(kernel, np.float32)[..., None], 6, axis=2)


def scoring_sum(box):
    """What scoring wants not to be positive, written as the protocol does."""
    return sum(int(x2 - x1) * int(y2 + y1) for (x1, y1), (x2, y2) in zip(box, np.roll(box, -1, 0)))


@pytest.mark.parametrize('index', range(4))
def test_equals_the_boxes_of_the_reference(data_dir, index):
    data = np.load(str(data_dir / 'reference_detect.npz'))
    score_maps = data['scores_q'][index].astype(np.float32) / np.float32(255)
    quads = detect(score_maps, tuple(data['image_size']), float(data['thresh'][index]),
                   int(data['min_area'][index]))
    expected = data[f'boxes_{index}']
    distances = np.array([[distance(one, other) for other in expected] for one in quads])
    assert distances.shape == (len(expected), len(expected))
    assert (distances.min(axis=0) <= TOLERANCE).all()
    assert (distances.min(axis=1) <= TOLERANCE).all()


def test_a_rectangle_covers_the_enlarged_pixels():
    kernel = np.zeros((8, 8))
    kernel[2:4, 1:6] = 1
    quads = detect(maps_of(kernel), (32, 32))
    assert quads.dtype == np.float32
    assert distance(quads[0], [(4, 8), (23, 8), (23, 15), (4, 15)]) < 1e-3


def test_nothing_found_is_an_empty_array():
    quads = detect(maps_of(np.zeros((8, 8))), (32, 32))
    assert quads.shape == (0, 4, 2)
    assert quads.dtype == np.float32
    assert detect(np.zeros((0, 8, 6), np.float32), (32, 0)).shape == (0, 4, 2)


def test_the_defaults_are_the_published_thresholds():
    kernel = np.zeros((8, 8))
    kernel[0, :6] = 1
    kernel[4, :5] = 1
    assert len(detect(maps_of(kernel), (32, 32))) == 1
    assert len(detect(maps_of(kernel) * np.float32(0.9), (32, 32))) == 0
    assert len(detect(maps_of(kernel) * np.float32(0.9001), (32, 32))) == 1


def test_score_maps_stay_unchanged():
    score_maps = np.random.RandomState(0).rand(16, 16, 6).astype(np.float32)
    score_maps.setflags(write=False)
    detect(score_maps, (64, 64), 0.3, 1)


@pytest.mark.parametrize(('arguments', 'words'), [
    ((np.zeros((8, 8)), (32, 32)), 'float32'),
    ((np.zeros((8, 8), np.float32), (32, 32)), 'shape'),
    ((np.zeros((8, 8, 6), np.float32), (32, 7)), 'image_size'),
    ((np.zeros((8, 8, 6), np.float32), (32, 32), 1.5), 'seg_map_thresh'),
    ((np.zeros((8, 8, 6), np.float32), (32, 32), float('nan')), 'seg_map_thresh'),
    ((np.zeros((8, 8, 6), np.float32), (32, 32), 0.9, -1), 'min_area'),
])
def test_wrong_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        detect(*arguments)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
                  elements=st.integers(0, 3)), st.integers(0, 40), st.integers(0, 40))
def test_equals_rectangles_of_the_enlarged_map(labels, more_width, more_height):
    labels = np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(labels.shape)
    labels = labels.astype(np.int32)
    size = labels.shape[1] + more_width, labels.shape[0] + more_height
    assert_rectangles(labels, labels[tuple(
        np.ix_(*(np.arange(target) * source // target
                 for source, target in zip(labels.shape, size[::-1]))))])


def test_equals_rectangles_of_a_map_enlarged_by_opencv(data_dir):
    labels = np.load(str(data_dir / 'reference_pse.npz'))['labels'][2].astype(np.int32)
    enlarged = cv2.resize(labels.astype(np.int16), None, fx=4, fy=4,
                          interpolation=cv2.INTER_NEAREST)
    assert_rectangles(labels, enlarged)


def assert_rectangles(labels, enlarged):
    """Checks for rectangles of the least area that hold all pixels of the enlarged map."""
    quads = label_rectangles(labels, labels.max(), enlarged.shape[::-1])
    assert len(quads) == labels.max()
    for label, quad in enumerate(quads, start=1):
        points = np.argwhere(enlarged == label)[:, ::-1].astype(np.int32)
        area = np.prod(cv2.minAreaRect(points)[1])
        assert np.prod(cv2.minAreaRect(quad)[1]) == pytest.approx(area, rel=1e-3, abs=1e-2)
        hull = cv2.convexHull(quad)
        assert all(cv2.pointPolygonTest(hull, (float(x), float(y)), True) > -0.01
                   for x, y in points)


def test_boxes_are_divided_clipped_and_truncated():
    quads = np.array([[(-8, 5), (100.6, 5), (100.6, 700), (-8, 700)]], np.float32)
    boxes, kept = to_original(quads, Geometry((120, 600), (60, 150)))
    assert kept.tolist() == [0]
    assert boxes.dtype == np.int32
    assert boxes.tolist() == [[[0, 1], [50, 1], [50, 150], [0, 150]]]


@pytest.mark.parametrize(('width', 'height', 'kept'), [
    (MIN_SIDE, MIN_SIDE, 1), (MIN_SIDE - 1, 50, 0), (50, MIN_SIDE - 1, 0), (4.99, 50, 0)])
def test_small_boxes_are_dropped(width, height, kept):
    quads = np.array([[(0, 0), (width, 0), (width, height), (0, height)]], np.float32)
    assert len(to_original(quads, Geometry((100, 100), (100, 100)))[0]) == kept


@pytest.mark.parametrize(('min_box_side', 'kept'), [(0, 2), (MIN_SIDE, 2), (8, 2), (9, 1), (21, 0)])
def test_boxes_below_a_chosen_side_are_dropped(min_box_side, kept):
    quads = np.array([[(0, 0), (30, 0), (30, 8), (0, 8)], [(0, 0), (0, 40), (20, 40), (20, 0)]],
                     np.float32)
    assert len(to_original(quads, Geometry((100, 100), (100, 100)), min_box_side)[0]) == kept


def test_a_box_outside_the_image_is_dropped():
    quads = np.array([[(200, 10), (220, 10), (220, 40), (200, 40)]], np.float32)
    assert len(to_original(quads, Geometry((100, 100), (100, 100)))[0]) == 0


def test_no_boxes_stay_none():
    boxes, _ = to_original(np.zeros((0, 4, 2), np.float32), Geometry((9, 9), (9, 9)))
    assert boxes.shape == (0, 4, 2)


def test_counter_clockwise_boxes_are_reversed():
    box = [[0, 0], [0, 9], [9, 9], [9, 0]]
    assert clockwise(np.array([box, box[:1] + box[:0:-1]], np.int32)).tolist() == [
        [[0, 0], [9, 0], [9, 9], [0, 9]]] * 2


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, (3, 4, 2), elements=st.floats(-500, 500, width=32)),
       st.integers(1, 900), st.integers(1, 300), st.integers(1, 300))
def test_scoring_accepts_every_box(quads, side, width, height):
    for box in to_original(quads, Geometry((side, side), (width, height)))[0]:
        assert scoring_sum(box) <= 0
        assert (box >= 0).all()
        assert (box <= (width, height)).all()


def ring_maps():
    """Score maps of half a ring, at the network's stride, and the ring at full size."""
    image = np.zeros((160, 240), np.uint8)
    cv2.ellipse(image, (120, 140), (100, 100), 0, 180, 360, 1, 24)
    small = np.ascontiguousarray(image[::4, ::4]).astype(np.float32)
    return np.stack([small] * 6, axis=2), image


def test_polygons_follow_a_curve_that_rectangles_cannot():
    maps, ring = ring_maps()
    geometry = Geometry((240, 160), (240, 160))
    polygon, = find_polygons(maps, geometry, Thresholds())
    box, = find_boxes(maps, geometry, Thresholds())
    ious = []
    for points in (polygon, box):
        drawn = cv2.fillPoly(np.zeros_like(ring), [points], 1)
        ious.append((drawn & ring).sum() / (drawn | ring).sum())
    assert ious[0] > 0.85
    assert ious[1] < 0.5
    assert 8 < len(polygon) < 40
    assert len(find_polygons(maps, geometry, Thresholds(), 0)[0]) > len(polygon)


def test_polygons_are_in_pixels_of_the_original_image_and_small_ones_are_dropped():
    maps, _ = ring_maps()
    polygon, = find_polygons(maps, Geometry((240, 160), (120, 80)), Thresholds())
    assert polygon.dtype == np.int32
    assert (polygon.max(axis=0) <= (120, 80)).all()
    assert find_polygons(maps, Geometry((240, 160), (120, 80)), Thresholds(min_box_side=100)) == []
    assert find_polygons(0 * maps, Geometry((240, 160), (120, 80)), Thresholds()) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10 ** 6), st.sampled_from([(96, 96), (50, 70), (200, 130)]),
       st.floats(0, 12))
def test_polygons_are_simple_clockwise_and_inside(seed, size, tolerance):
    noise = np.random.RandomState(seed).rand(24, 24).astype(np.float32)
    score = cv2.GaussianBlur(noise, (0, 0), 1.5)
    score = (score - score.min()) / np.ptp(score)
    maps = np.stack([score * share for share in (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)], axis=2)
    geometry, thresholds = Geometry((96, 96), size), Thresholds(0.5, 3)
    polygons = find_polygons(maps, geometry, thresholds, tolerance)
    assert len(polygons) == len(find_boxes(maps, geometry, thresholds))
    for polygon in polygons:
        assert Polygon(polygon).is_valid
        assert scoring_sum(polygon) <= 0
        assert (polygon >= 0).all()
        assert (polygon <= size).all()


def test_an_outline_of_two_points_gives_way_to_the_rectangle():
    maps = np.zeros((16, 40, 6), np.float32)
    maps[4:6, 5:30] = 1
    polygon, = find_polygons(maps, Geometry((160, 64), (160, 64)), Thresholds(), 60)
    assert polygon.shape == (4, 2)


def scored_maps():
    """Three texts of 60x32 pixels with mean scores of 0.6, 0.95 and 0.85."""
    maps = np.zeros((20, 60, 6), np.float32)
    for left, score in ((2, 0.6), (22, 0.95), (42, 0.75)):
        maps[4:12, left:left + 15] = score
    maps[4:12, 42:57, 5] = np.linspace(0.7, 1, 15)
    return maps


@pytest.mark.parametrize('tolerance', [None, 4.0])
def test_regions_below_a_mean_score_are_dropped(tolerance):
    geometry = Geometry((240, 80), (240, 80))
    every = find_regions(scored_maps(), geometry, Thresholds(0.5), tolerance)
    np.testing.assert_allclose(every.scores, [0.6, 0.95, 0.85], atol=1e-6)
    for min_score, kept in ((0, [0, 1, 2]), (0.61, [1, 2]), (0.9, [1]), (0.96, [])):
        left = find_regions(scored_maps(), geometry, Thresholds(0.5, min_score=min_score),
                            tolerance)
        np.testing.assert_array_equal(left.scores, every.scores[kept])
        assert len(left.polygons) == len(left.quads) == len(kept)
        for shape, place in zip(left.polygons, kept):
            np.testing.assert_array_equal(shape, every.polygons[place])


def test_regions_that_cover_little_of_the_image_are_dropped():
    maps = scored_maps()
    maps[4:8, 2:17] = 0
    # Half as large in the image as in the network's input: 15x8 map pixels are 30x16 there.
    geometry = Geometry((240, 80), (120, 40))
    every = find_regions(maps, geometry, Thresholds(0.5))
    assert sorted(every.areas) == [240, 480, 480]
    assert len(find_boxes(maps, geometry, Thresholds(0.5, min_region_area=240))) == 3
    assert len(find_boxes(maps, geometry, Thresholds(0.5, min_region_area=241))) == 2
    assert len(find_boxes(maps, geometry, Thresholds(0.5, min_region_area=481))) == 0


def test_quads_of_outlines_are_the_rectangles_around_them():
    maps, _ = ring_maps()
    geometry = Geometry((240, 160), (240, 160))
    quad, = find_regions(maps, geometry, Thresholds(), 0).quads
    box, = find_boxes(maps, geometry, Thresholds())
    assert np.abs(np.sort(quad, axis=0) - np.sort(box, axis=0)).max() <= 2
    assert scoring_sum(quad) <= 0
