"""Scores computed by hand, and properties that hold for all scores."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import Detections, GroundTruth
from evaluation.report import average_precision, evaluate


def squares(*places):
    """10 x 10 boxes, 100 apart."""
    corner = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
    return np.array([corner + [100 * place, 0] for place in places], np.int64).reshape(-1, 4, 2)


def regions(*places, ignored=()):
    return GroundTruth(squares(*places), np.array([place in ignored for place in places], bool))


def found(*places, confidences=None):
    return Detections(squares(*places),
                      np.ones(len(places)) if confidences is None else np.array(confidences))


def score(ground_truth, detections, **parameters):
    return evaluate(ground_truth, detections, DEFAULT_PARAMETERS._replace(**parameters))


def test_counts_are_summed_over_samples_before_dividing():
    result = score({'1': regions(1, 2, 3), '2': regions(1)},
                   {'1': found(1, 9), '2': found(1, 7, 8)})
    assert result.score == (2 / 5, 2 / 4, 2 * 0.4 * 0.5 / (0.4 + 0.5), 0)
    assert result.samples['1'].score == (1 / 2, 1 / 3, 2 * 0.5 * (1 / 3) / (0.5 + 1 / 3), 0)
    assert result.samples['2'].score == (1 / 3, 1, 2 * (1 / 3) / (1 / 3 + 1), 0)


def test_ignored_regions_and_detections_count_for_nothing():
    result = score({'1': regions(1, 2, 3, ignored=[2, 3])}, {'1': found(1, 2)})
    assert result.score == (1, 1, 1, 0)


def test_a_sample_that_the_results_lack_counts_as_empty():
    result = score({'1': regions(1), '2': regions(1)}, {'1': found(1)})
    assert result.score == (1, 0.5, 2 / 3, 0)
    assert result.samples['2'].score == (0, 0, 0, 0)


def test_no_results_at_all():
    assert score({'1': regions(1, 2)}, {}).score == (0, 0, 0, 0)


def test_nothing_to_find():
    result = score({'1': regions(), '2': regions(1, ignored=[1]), '3': regions()},
                   {'2': found(1), '3': found(5)})
    assert result.samples['1'].score == (1, 1, 1, 1)
    assert result.samples['2'].score == (1, 1, 1, 1)
    assert result.samples['3'].score == (0, 1, 0, 0)
    assert result.score == (0, 0, 0, 0)


def test_average_precision_of_a_small_case():
    """By confidence: hit, miss, hit, miss; the third region is never found."""
    confidences, matched = np.array([0.2, 0.9, 0.5, 0.7]), np.array([False, True, True, False])
    assert average_precision(confidences, matched, 3) == (1 / 1 + 2 / 3) / 3


def test_average_precision_keeps_the_order_of_equal_confidences():
    equal = np.full(40, 0.5)
    matched = np.arange(40) == 20
    assert average_precision(equal, matched, 1) == 1 / 21


def test_average_precision_without_regions_or_detections():
    none = np.zeros(0)
    assert average_precision(none, none.astype(bool), 3) == 0
    assert average_precision(np.ones(2), np.zeros(2, bool), 0) == 0


def test_average_precision_runs_over_all_samples():
    result = score(
        {'1': regions(1, 2), '2': regions(1), '3': regions()},
        {'1': found(1, 8, confidences=[0.9, 0.8]), '2': found(7, 1, confidences=[0.3, 0.6]),
         '3': found(4, confidences=[0.7])}, CONFIDENCES=True)
    # 0.9 hit, 0.8 miss, 0.7 miss, 0.6 hit, 0.3 miss; three regions.
    assert result.score.AP == (1 / 1 + 2 / 4) / 3
    assert result.samples['1'].score.AP == 1 / 2
    assert result.samples['2'].score.AP == 1
    assert result.samples['3'].score.AP == 0


def test_ignored_detections_do_not_lower_average_precision():
    result = score({'1': regions(1, 2, ignored=[2])},
                   {'1': found(2, 1, confidences=[0.9, 0.1])}, CONFIDENCES=True)
    assert result.score == (1, 1, 1, 1)


def clockwise(points):
    points = np.array(points, np.int64)
    (x1, y1), (x2, y2) = points[2] - points[0], points[3] - points[1]
    signed = x1 * y2 - y1 * x2
    return points if signed >= 0 else points[::-1]


points = st.tuples(st.integers(0, 40), st.integers(0, 40))
quads = st.lists(st.lists(points, min_size=4, max_size=4).map(clockwise), max_size=6).map(
    lambda boxes: np.array(boxes, np.int64).reshape(-1, 4, 2))


@st.composite
def data_sets(draw):
    ground_truth, detections = {}, {}
    for name in 'abc'[:draw(st.integers(1, 3))]:
        boxes = draw(quads)
        tags = draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes)))
        ground_truth[name] = GroundTruth(boxes, np.array(tags, bool))
        boxes = draw(quads)
        confidences = draw(st.lists(st.floats(0, 1), min_size=len(boxes), max_size=len(boxes)))
        detections[name] = Detections(boxes, np.array(confidences, np.float64))
    return ground_truth, detections


@settings(max_examples=100, deadline=None)
@given(data_sets(), st.floats(0, 1))
def test_scores_lie_between_0_and_1(data, constraint):
    result = score(*data, IOU_CONSTRAINT=constraint, CONFIDENCES=True)
    for figures in [result.score] + [sample.score for sample in result.samples.values()]:
        assert all(0 <= figure <= 1 for figure in figures)
        low, high = sorted(figures[:2])
        assert low <= figures.hmean + 1e-12
        assert figures.hmean <= high + 1e-12


@settings(max_examples=100, deadline=None)
@given(data_sets())
def test_the_order_of_samples_does_not_matter(data):
    ground_truth, detections = data
    reverse = dict(reversed(list(ground_truth.items())))
    assert score(ground_truth, detections).score == score(reverse, detections).score


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 20), min_size=1), st.integers(0, 20))
def test_ground_truth_scores_1_against_itself(places, ignored):
    ground_truth = {'1': regions(*places, ignored=[ignored]), '2': regions(3)}
    result = score(ground_truth, {'1': found(*places), '2': found(3)}, CONFIDENCES=True)
    assert result.score == (1, 1, 1, 1)
