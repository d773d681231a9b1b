"""How the arrays of a batch lie in memory: one after the other, whoever holds the memory."""

from typing import NamedTuple

import numpy as np

from utils.utils_tool import cfg


class BatchArrays(NamedTuple):
    """The arrays of N samples of side S."""

    images: np.ndarray          # uint8 (N, S, S, 3), RGB, 0..255
    seg_maps: np.ndarray        # uint8 (N, S/4, S/4, 6), 0 or 1, smallest kernel first
    training_masks: np.ndarray  # uint8 (N, S/4, S/4, 1), 0 where the loss must not look, else 1


class BatchLayout(NamedTuple):
    """The shapes of a batch."""

    batch_size: int
    input_size: int             # side S in pixels, a multiple of cfg.SIDE_MULTIPLE

    @property
    def num_bytes(self) -> int:
        """Bytes of a batch, a multiple of 64."""
        return sum(int(np.prod(shape)) for shape in self._shapes())

    def place(self, memory: np.ndarray) -> BatchArrays:
        """Sees memory as the arrays of a batch.

        Args:
            memory: uint8 (num_bytes,), contiguous.

        Returns:
            Views of it, each of which begins at a multiple of 64 bytes, as TensorFlow needs it to
            take an array without a copy.
        """
        shapes = self._shapes()
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        return BatchArrays(*(part.reshape(shape)
                             for part, shape in zip(np.split(memory, ends[:-1]), shapes)))

    def allocate(self) -> BatchArrays:
        """The arrays in new memory, with any values."""
        return self.place(np.empty(self.num_bytes, np.uint8))

    def _shapes(self) -> BatchArrays:
        count, size, side = self.batch_size, self.input_size, self.input_size // cfg.STRIDE
        return BatchArrays((count, size, size, 3), (count, side, side, cfg.NUM_KERNELS),
                           (count, side, side, 1))
