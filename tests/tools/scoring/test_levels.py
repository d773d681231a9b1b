"""Scores kept in a byte: exact where it counts."""

import numpy as np
import pytest

from tools.scoring.grid import MAX_THRESHOLDS, Levels
from utils.errors import PSENetError

THRESHOLDS = (0.0, 0.1, 0.35, 0.9, 0.99)


def test_restored_scores_lie_on_the_same_side_of_every_threshold():
    levels = Levels(THRESHOLDS)
    near = [np.nextafter(np.float32(t), np.float32(side)) for t in THRESHOLDS for side in (-1, 2)]
    scores = np.array([*near, *THRESHOLDS, 1.0, *np.random.RandomState(0).rand(10000)], np.float32)
    restored = levels.restore(levels.of(scores))
    assert restored.dtype == np.float32
    for threshold in np.array(THRESHOLDS, np.float32):
        np.testing.assert_array_equal(restored > threshold, scores > threshold)


def test_a_score_that_is_no_number_is_above_nothing():
    levels = Levels(THRESHOLDS)
    assert not (levels.restore(levels.of(np.array([np.nan], np.float32))) > 0).any()


def test_as_many_thresholds_as_a_byte_tells_apart():
    levels = Levels(np.arange(MAX_THRESHOLDS) / 256)
    assert levels.of(np.ones((2, 3), np.float32)).tolist() == [[255] * 3] * 2
    with pytest.raises(PSENetError, match='256 thresholds'):
        Levels(np.arange(MAX_THRESHOLDS + 1) / 256)
