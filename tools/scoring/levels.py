"""Score maps in a byte a score, exact for some thresholds: how many of these a score is above.

Whatever compares scores with one of the thresholds finds the same with the restored maps.
"""

from typing import Sequence

import numpy as np

from utils.errors import PSENetError

MAX_THRESHOLDS = np.iinfo(np.uint8).max


class Levels:
    """Turns score maps into levels and back, for thresholds that are known beforehand."""

    def __init__(self, thresholds: Sequence[float]):
        """Prepares both ways.

        Args:
            thresholds: 0 to below 1; post-processing compares them as float32, and so it is here.

        Raises:
            PSENetError: there are more than a byte can tell apart.
        """
        self._thresholds = np.unique(np.array(thresholds, np.float32))
        if len(self._thresholds) > MAX_THRESHOLDS:
            raise PSENetError(f'{len(self._thresholds)} thresholds for scores are more than the '
                              f'{MAX_THRESHOLDS} allowed; try fewer at a time')
        # Of each level the lowest score: right above the last threshold below it.
        self._scores = np.append(np.float32(0), np.nextafter(self._thresholds, np.float32(1)))

    def of(self, score_maps: np.ndarray) -> np.ndarray:
        """The levels of score maps.

        Args:
            score_maps: float32, any shape, 0..1.

        Returns:
            uint8 of that shape: the number of thresholds below each score.
        """
        levels = np.zeros(score_maps.shape, np.uint8)
        for threshold in self._thresholds:
            levels += score_maps > threshold
        return levels

    def restore(self, levels: np.ndarray) -> np.ndarray:
        """Score maps, float32, that lie on the same side of each threshold as the original ones."""
        return self._scores[levels]
