"""Pixels of samples, decoded to half their size where that is enough, and kept if there is room."""

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

    def read(self, index: int, halved: bool) -> np.ndarray:
        """Reads a sample's image.

        Args:
            index: of the sample.
            halved: whether half of the size is enough, which takes less time to decode; both sides
                must be even then.

        Returns:
            uint8 (H, W, 3), BGR, not to be written to.

        Raises:
            ImageError: the image cannot be read any more; the sample is among `broken` from now on.
        """
        # An image that is kept is no source of its half: a sample must not depend on what is kept.
        image = self._kept.get((index, halved))
        if image is None:
            image = self._decode(index, halved)
            if image.nbytes <= self._room:
                self._kept[index, halved] = image
                self._room -= image.nbytes
        return image

    def _decode(self, index: int, halved: bool) -> np.ndarray:
        sample = self._samples[index]
        path, (height, width) = sample.image_path, sample.size
        try:
            image = read_image(path, halved, height * width, sample.apply_exif_orientation)
            if image.shape[:2] != ((height // 2, width // 2) if halved else (height, width)):
                raise ImageError(f'The image {path} is no longer of the size that it had at the '
                                 'start.')
        except ImageError:
            self.broken.add(index)
            raise
        return image
