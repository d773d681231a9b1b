"""What all the rest asks of the network, wherever it runs: score maps of an image."""

import abc
from typing import Tuple

import numpy as np

from utils.errors import PSENetError


class ScoreNetwork(abc.ABC):
    """A network that is ready to run, until it is closed."""

    @abc.abstractmethod
    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image.

        Args:
            image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32; where the input's sizes are
                fixed, at most one of them.

        Returns:
            float32 (H/4, W/4, 6), 0..1, smallest kernel first.

        Raises:
            PSENetError: the device has too little memory for an image of this size.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Frees what the network holds; nothing can be run any more."""


def too_little_memory(image_shape: Tuple[int, ...]) -> PSENetError:
    """The error of an image, of shape (H, W, ...), that the device's memory cannot take."""
    height, width = image_shape[:2]
    return PSENetError(f'too little memory for an image of {width}x{height} pixels; lower '
                       '--max_side_len')
