"""Pixels of samples, decoded at the least size that is enough, and kept where there is room."""

from typing import Dict, List, Set, Tuple

import numpy as np

from utils.data_provider.datasets import Sample
from utils.image_io import ImageError, read_image


class SampleReader:
    """Reads the images of samples, which have been found to exist before.

    Args:
        samples: the usable images.
        cache_bytes: what the decoded images that are kept may take. The first that fit are kept
            for good: every epoch wants every image once, so that none is worth more than another.
    """

    def __init__(self, samples: List[Sample], cache_bytes: int = 0):
        self._samples = samples
        self._room = cache_bytes
        self._kept: Dict[Tuple[int, bool], np.ndarray] = {}
        self.broken: Set[int] = set()

    def read(self, index: int, scaled_size: Tuple[int, int]) -> np.ndarray:
        """Reads a sample's image.

        Args:
            index: of the sample.
            scaled_size: (height, width) that the image is going to be resized to.

        Returns:
            uint8 (H, W, 3), BGR, not to be written to: all of the image, at its own size or, where
            that is the scaled size, at half of it.

        Raises:
            ImageError: the image cannot be read any more; the sample is among `broken` from now on.
        """
        size = self._samples[index].size
        # A JPEG is decoded to half its size in half of the time, to within a grey level of what
        # resizing makes of the whole. Not so to a quarter: resizing skips pixels there. What is
        # kept has no say in it, for a sample must not depend on that.
        halved = (2 * scaled_size[0], 2 * scaled_size[1]) == tuple(size)
        image = self._kept.get((index, halved))
        if image is None:
            image = self._decode(index, scaled_size if halved else size, halved)
            if image.nbytes <= self._room:
                self._kept[index, halved] = image
                self._room -= image.nbytes
        return image

    def _decode(self, index: int, size: Tuple[int, int], halved: bool) -> np.ndarray:
        path = self._samples[index].image_path
        try:
            image = read_image(path, halved)
            if image.shape[:2] != tuple(size):
                raise ImageError(f'The image {path} is no longer of the size that it had at the '
                                 'start.')
        except ImageError:
            self.broken.add(index)
            raise
        return image
