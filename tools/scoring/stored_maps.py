"""The network's answers to a folder of images, kept on the disk for as long as they are needed."""

import os
import zlib
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Tuple

import numpy as np

from inference.folder import FolderImage, Read, run_network
from inference.preprocess import Size
from tools.scoring.levels import Levels
from tools.scoring.validation import refuse_unreadable
from utils.errors import PSENetError

if TYPE_CHECKING:
    from inference.detector import Detector

# Maps are nearly empty: a higher level takes longer and gains little.
_COMPRESSION = 1


class StoredMaps(NamedTuple):
    """The levels of one image's score maps in a file, and what post-processing needs besides.

    path: zlib-compressed uint8 of ``shape``, (h, w, 6), smallest kernel first.
    input_size: (width, height) of the network's input.
    ratios: (x, y), that size divided by that of the original image.
    image_size: (width, height) of the original image.
    """

    path: str
    shape: Tuple[int, int, int]
    input_size: Size
    ratios: Tuple[float, float]
    image_size: Size

    def read(self, levels: Levels) -> np.ndarray:
        """The score maps, float32 (h, w, 6), exact for the thresholds of ``levels``."""
        with open(self.path, 'rb') as file:
            stored = np.frombuffer(zlib.decompress(file.read()), np.uint8)
        return levels.restore(stored.reshape(self.shape))


def store_maps(detector: 'Detector', images: Dict[str, str], levels: Levels, folder: str,
               read: Read) -> Dict[str, StoredMaps]:
    """Runs the network on every image and keeps what it answers.

    Args:
        detector: has the network; its thresholds play no part.
        images: id of the sample -> path.
        levels: what the answers have to be exact for.
        folder: an existing, empty folder for the files.
        read: reads an image file, as ``image_reader`` makes it.

    Returns:
        The maps by id of the sample.

    Raises:
        PSENetError: an image cannot be read, a file not be written, or the detector cannot go on.
    """
    stored: Dict[str, StoredMaps] = {}

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        path = os.path.join(folder, image.stem)
        _write(path, zlib.compress(levels.of(score_maps).tobytes(), _COMPRESSION))
        stored[image.stem] = StoredMaps(
            path, score_maps.shape, image.prepared.image_rgb.shape[1::-1], image.prepared.ratios,
            image.image_bgr.shape[1::-1])

    run_network(detector, images, keep, read)
    return stored


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, 'wb') as file:
            file.write(data)
    except OSError as error:
        raise PSENetError(f'score maps cannot be kept in {path} ({error.strerror}); make room '
                          'there, or name another folder in TMPDIR') from None
