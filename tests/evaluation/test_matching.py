"""The greedy matching, on cases computed by hand and against a plain loop."""

import numpy as np
import pytest

from evaluation import matching
from evaluation.matching import iou_matrix, match_samples
from evaluation.overlap import intersection_areas
from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import Detections, GroundTruth


def box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def regions(*quads, ignored=()):
    tags = np.array([index in ignored for index in range(len(quads))], bool)
    return GroundTruth(np.array(quads, np.int64).reshape(-1, 4, 2), tags)


def found(*quads):
    return Detections(np.array(quads, np.int64).reshape(-1, 4, 2), np.ones(len(quads)))


def match(ground_truth, detections, **parameters):
    result, = match_samples([ground_truth], [detections], DEFAULT_PARAMETERS._replace(**parameters))
    return result.pairs, np.flatnonzero(result.ignored_detections).tolist()


SQUARE = box(0, 0, 10, 10)


def test_a_box_matches_itself():
    assert match(regions(SQUARE), found(SQUARE)) == ([(0, 0)], [])


@pytest.mark.parametrize('quad, matches', [
    (box(0, 0, 10, 5), False),              # IoU exactly 0.5
    (box(0, 0, 10, 6), True),
    (box(0, 0, 20, 10), False),             # 0.5 from the other side
    (box(0, 0, 19, 10), True),
    ([[0, 0], [10, 0], [10, 10], [10, 10]], False),  # a triangle, half of it
])
def test_the_iou_must_be_above_one_half(quad, matches):
    assert match(regions(SQUARE), found(quad))[0] == [(0, 0)] * matches


def test_a_slanted_iou_of_exactly_one_half_is_no_match():
    slanted = np.array([[3, 0], [10, 7], [7, 10], [0, 3]])
    half = slanted.copy()
    half[1:3] = slanted[1:3] * 2 - slanted[[0, 3]]  # twice as long
    assert intersection_areas(slanted[None], half[None])[0] == pytest.approx(42)
    assert match(regions(slanted), found(half))[0] == []


def test_the_constraint_can_be_changed():
    half = box(0, 0, 10, 5)
    assert match(regions(SQUARE), found(half), IOU_CONSTRAINT=0.49)[0] == [(0, 0)]
    assert match(regions(SQUARE), found(SQUARE), IOU_CONSTRAINT=1)[0] == []
    touching = box(10, 0, 20, 10)
    assert match(regions(SQUARE), found(touching), IOU_CONSTRAINT=0)[0] == []
    assert match(regions(SQUARE), found(box(9, 9, 20, 20)), IOU_CONSTRAINT=0)[0] == [(0, 0)]


def test_the_first_good_enough_detection_wins_over_a_better_one():
    assert match(regions(SQUARE), found(box(0, 0, 10, 7), SQUARE))[0] == [(0, 0)]


def test_the_first_region_takes_the_detection_though_a_later_one_fits_better():
    first, second = box(0, 0, 10, 7), SQUARE
    assert match(regions(first, second), found(SQUARE))[0] == [(0, 0)]


def test_each_detection_matches_once():
    assert match(regions(SQUARE, SQUARE, SQUARE), found(SQUARE, SQUARE))[0] == [(0, 0), (1, 1)]


def test_region_order_goes_before_detection_order():
    left, right = box(0, 0, 10, 10), box(100, 0, 110, 10)
    assert match(regions(right, left), found(left, right))[0] == [(0, 1), (1, 0)]


@pytest.mark.parametrize('quad, ignored', [
    (box(5, 0, 15, 10), False),             # half of it lies in the region: not more
    (box(4, 0, 14, 10), True),
    (box(2, 2, 4, 4), True),
    (box(-50, -50, 50, 50), False),         # holds the region, but is much larger
])
def test_a_detection_mostly_in_a_do_not_care_region_is_ignored(quad, ignored):
    assert match(regions(SQUARE, ignored=[0]), found(quad)) == ([], [0] * ignored)


def test_the_share_can_be_changed():
    half_inside = box(5, 0, 15, 10)
    assert match(regions(SQUARE, ignored=[0]), found(half_inside),
                 AREA_PRECISION_CONSTRAINT=0.4)[1] == [0]


def test_two_do_not_care_regions_do_not_add_up():
    left, right = box(0, 0, 4, 10), box(4, 0, 8, 10)
    across = box(0, 0, 8, 10)
    assert match(regions(left, right, ignored=[0, 1]), found(across))[1] == []


def test_an_ignored_detection_matches_nothing():
    assert match(regions(SQUARE, SQUARE, ignored=[1]), found(SQUARE)) == ([], [0])


def test_a_do_not_care_region_matches_nothing():
    large = box(0, 0, 18, 10)  # IoU 0.56 with the region, of which 0.56 of the detection
    assert match(regions(SQUARE, ignored=[0]), found(large), AREA_PRECISION_CONSTRAINT=0.9) == (
        [], [])


@pytest.mark.parametrize('degenerate', [[[5, 5]] * 4, [[0, 0], [10, 10], [5, 5], [2, 2]]])
def test_quads_without_area_match_nothing_and_are_not_ignored(degenerate):
    assert match(regions(degenerate), found(degenerate)) == ([], [])
    assert match(regions(SQUARE), found(degenerate), IOU_CONSTRAINT=0) == ([], [])
    assert match(regions(SQUARE, ignored=[0]), found(degenerate),
                 AREA_PRECISION_CONSTRAINT=0) == ([], [])


def test_a_self_crossing_quad_has_the_area_of_the_shoelace_formula():
    """Reference behaviour: one lobe counts against the other, though the square holds both."""
    crossing = [[0, 0], [8, 8], [2, 8], [8, 2]]
    square = box(0, 0, 8, 8)
    area = intersection_areas(np.array([crossing]), np.array([square]))[0]
    shoelace = abs(matching.signed_areas(np.array([crossing]))[0])
    assert area > shoelace
    assert iou_matrix(np.array([square]), np.array([crossing]))[0, 0] == pytest.approx(
        area / (64 + shoelace - area))


def test_a_self_crossing_quad_without_net_area():
    crossing = [[0, 0], [10, 10], [10, 0], [0, 10]]
    assert match(regions(crossing), found(crossing)) == ([], [])
    assert match(regions(SQUARE, ignored=[0]), found(crossing)) == ([], [])


@pytest.mark.parametrize('ground_truth, detections', [
    (regions(), found()), (regions(SQUARE), found()), (regions(), found(SQUARE))])
def test_samples_without_boxes(ground_truth, detections):
    assert match(ground_truth, detections) == ([], [])


def test_no_samples():
    assert match_samples([], [], DEFAULT_PARAMETERS) == []


def test_iou_matrix():
    np.testing.assert_allclose(
        iou_matrix(np.array([SQUARE, box(100, 0, 110, 10)]),
                   np.array([SQUARE, box(5, 0, 15, 10), [[5, 5]] * 4])),
        [[1, 1 / 3, 0], [0, 0, 0]], rtol=1e-12)
    none = np.zeros((0, 4, 2), np.int64)
    assert iou_matrix(none, np.array([SQUARE])).shape == (0, 1)
    assert iou_matrix(np.array([SQUARE]), none).shape == (1, 0)


def random_samples(count, seed):
    random = np.random.RandomState(seed)
    for _ in range(count):
        quads = [random.randint(0, 30, (random.randint(0, 9), 4, 2)) for _ in range(2)]
        quads[1][:len(quads[0]):2] = quads[0][:len(quads[1]):2]
        tags = random.rand(len(quads[0])) < 0.3
        yield GroundTruth(quads[0], tags), Detections(quads[1], np.ones(len(quads[1])))


def plain(ground_truth, detections, parameters):
    """The protocol word for word, one pair at a time."""
    ious = iou_matrix(ground_truth.quads, detections.quads)
    areas = np.abs(matching.signed_areas(detections.quads))
    ignored = [any(tag and areas[d] and intersection_areas(
        ground_truth.quads[[g]], detections.quads[[d]])[0] / areas[d]
        > parameters.AREA_PRECISION_CONSTRAINT for g, tag in enumerate(ground_truth.ignore_tags))
        for d in range(len(detections.quads))]
    free_gt, free_det, pairs = ~ground_truth.ignore_tags, ~np.array(ignored, bool), []
    for region in range(len(ground_truth.quads)):
        for detection in range(len(detections.quads)):
            if (free_gt[region] and free_det[detection]
                    and ious[region, detection] > parameters.IOU_CONSTRAINT):
                free_gt[region] = free_det[detection] = False
                pairs.append((region, detection))
    return pairs, ignored


@pytest.mark.parametrize('cells', [1, 40, 1 << 20])
@pytest.mark.parametrize('iou', [0.1, 0.5])
def test_random_samples_agree_with_a_plain_loop(monkeypatch, cells, iou):
    """Whatever samples are matched together, and with all the pairs that are left out early."""
    monkeypatch.setattr(matching, '_MAX_CELLS', cells)
    parameters = DEFAULT_PARAMETERS._replace(IOU_CONSTRAINT=iou)
    samples = list(random_samples(60, seed=1))
    results = match_samples(*zip(*samples), parameters)
    assert len(results) == len(samples)
    for sample, result in zip(samples, results):
        assert (result.pairs, result.ignored_detections.tolist()) == plain(*sample, parameters)
