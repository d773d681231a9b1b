"""Images, ground truth and score maps for the benchmark cases.

Images are those of ICDAR2015 if available, otherwise synthetic. Score maps are made from the ground
truth: training targets at the network's input size, with soft edges and noise, passed through a
sigmoid. At the default threshold words have ragged edges, small ones break, and there are a few
specks outside text.
"""

import contextlib
import functools
import os
import tempfile
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import GroundTruth, read_ground_truth
from inference.config import MAX_SIDE_LEN
from inference.detector import network_size
from tools.demo_data import DatasetSpec, ensure_dataset
from utils.data_provider.targets import generate_seg
from utils.errors import PSENetError
from utils.geometry import validate_polygons
from utils.image_io import read_image_size
from utils.utils_tool import cfg

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ICDAR = 'ICDAR2015'
ICDAR_FOLDER = os.path.join(os.path.dirname(ROOT), 'shared', 'data', 'icdar2015')
# As high as the network's input for ICDAR2015.
_DEMO = DatasetSpec(train_images=40, test_images=40, size=736)
_NAMES = ('train', 'test', 'gt.zip')


class Samples(NamedTuple):
    """Images in the official ICDAR2015 format, all of the same size.

    Attributes:
        name: name of the data set, for messages.
        train_dir: directory with img_N.jpg and gt_img_N.txt.
        test_dir: directory with img_N.jpg.
        gt_zip: ground truth, gt_img_N.txt, of at least the images in test_dir.
        image_size: (width, height).
    """

    name: str
    train_dir: str
    test_dir: str
    gt_zip: str
    image_size: Tuple[int, int]


@contextlib.contextmanager
def open_samples(directory: Optional[str] = None) -> Iterator[Samples]:
    """Opens the ICDAR2015 samples, or draws synthetic ones in a temporary directory.

    Args:
        directory: contains train, test and gt.zip in the format of ICDAR2015. None takes
            ICDAR_FOLDER if it is complete, otherwise synthetic data.

    Yields:
        The samples.

    Raises:
        PSENetError: the directory is not complete.
    """
    if directory is not None:
        yield _samples(directory, directory)
    elif all(os.path.exists(os.path.join(ICDAR_FOLDER, name)) for name in _NAMES):
        yield _samples(ICDAR, ICDAR_FOLDER)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            ensure_dataset(temporary, _DEMO)
            yield _samples('the demo', temporary)


def _samples(name: str, directory: str) -> Samples:
    paths = [os.path.join(directory, each) for each in _NAMES]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise PSENetError(f'{missing[0]} does not exist; --samples is a directory with train, test '
                          'and gt.zip as ICDAR2015 has them')
    height, width = read_image_size(os.path.join(paths[1], 'img_1.jpg'))
    return Samples(name, *paths, (width, height))


# Logits outside text, and the increase inside.
_OUTSIDE, _RISE = -4, 12
_NOISE = 1.5


def input_size(samples: Samples) -> Tuple[int, int]:
    """Returns (width, height) of the network's input for the samples' images."""
    return network_size(samples.image_size, MAX_SIDE_LEN)


@functools.lru_cache(maxsize=1)
def draw_kernels(samples: Samples) -> Dict[str, np.ndarray]:
    """Draws the kernels of every image of the ground truth.

    Returns:
        Image id -> uint8 (6, h, w), 0 or 1, smallest kernel first, at the network's stride.
    """
    regions = read_ground_truth(samples.gt_zip, DEFAULT_PARAMETERS)
    return {image_id: _draw(each, samples) for image_id, each in regions.items()}


def _draw(regions: GroundTruth, samples: Samples) -> np.ndarray:
    size = input_size(samples)
    scale = np.divide(size, samples.image_size)
    polygons, valid = validate_polygons((regions.quads * scale).astype(np.float32), size[::-1])
    seg_maps, _ = generate_seg(size[::-1], polygons, regions.ignore_tags[valid])
    return np.ascontiguousarray(seg_maps[::cfg.STRIDE, ::cfg.STRIDE].transpose(2, 0, 1))


@functools.lru_cache(maxsize=1)
def draw_scores(samples: Samples) -> Dict[str, np.ndarray]:
    """Draws the score maps of every image of the ground truth.

    Returns:
        Image id -> uint8 (h, w, 6), smallest kernel first; ``as_scores`` converts them to scores.
    """
    kernels = draw_kernels(samples)
    random_state = np.random.RandomState(0)
    height, width = next(iter(kernels.values())).shape[1:]
    noise = cv2.GaussianBlur(random_state.standard_normal((height, width, 6)), (0, 0), 1)
    noise *= _NOISE / noise.std()
    shifts = random_state.randint(max(height, width), size=(len(kernels), 2))
    return {image_id: _soften(each, np.roll(noise, shift, (0, 1)))
            for (image_id, each), shift in zip(kernels.items(), shifts)}


def _soften(kernels: np.ndarray, noise: np.ndarray) -> np.ndarray:
    inside = cv2.blur(kernels.transpose(1, 2, 0).astype(np.float64), (3, 3))
    return np.rint(255 / (1 + np.exp(-(_OUTSIDE + _RISE * inside + noise)))).astype(np.uint8)


def as_scores(quantised: np.ndarray) -> np.ndarray:
    """Converts quantised score maps to new float32 (h, w, 6), 0..1, as the network returns."""
    return quantised / np.float32(255)
