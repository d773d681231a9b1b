"""Ground truth -> what the network would answer: kernels, and score maps in all their unevenness.

The kernels are the project's own training targets at the network's input size. Score maps are these
with soft edges and noise, put through a sigmoid as the network does; at the default threshold words
come out ragged, small ones break, and a few specks stand where there is no text.
"""

import functools
from typing import Dict, Tuple

import cv2
import numpy as np

from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import GroundTruth, read_ground_truth
from inference.preprocess import network_size
from tools.benchmarks.measure import Target
from tools.benchmarks.samples import ICDAR, Samples
from utils.data_provider.targets import generate_seg
from utils.geometry import validate_polygons
from utils.utils_tool import cfg

MAX_SIDE_LEN = 2400
YARDSTICK = 'cv2.connectedComponents'

# Logits outside of text, and how much higher they are inside.
_OUTSIDE, _RISE = -4, 12
_NOISE = 1.5


def input_size(samples: Samples) -> Tuple[int, int]:
    """(width, height) of the network's input for the samples' images."""
    return network_size(samples.image_size, MAX_SIDE_LEN)


@functools.lru_cache(maxsize=1)
def draw_kernels(samples: Samples) -> Dict[str, np.ndarray]:
    """Draws the kernels of every image of the ground truth.

    Returns:
        By the image's id uint8 (6, h, w), 0 or 1, smallest kernel first, at the network's stride.
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
        By the image's id uint8 (h, w, 6), smallest kernel first; ``as_scores`` makes scores of
        them.
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
    """Score maps in new memory, as the network hands them over: float32 (h, w, 6), 0..1."""
    return quantised / np.float32(255)


def ratio_target(samples: Samples, limit: float) -> Tuple[Target, ...]:
    """A target for the ratio, for the maps of ICDAR2015 alone.

    Expansion works on text and the yardstick on the whole map: the demo's close-ups are a fifth
    text, ten times as much.
    """
    return (Target('ratio', limit),) if samples.name == ICDAR else ()


def label_smallest(kernel: np.ndarray) -> None:
    """The yardstick: labels a smallest kernel, uint8 (h, w), the least that expansion has to do."""
    cv2.connectedComponents(kernel, connectivity=4)
