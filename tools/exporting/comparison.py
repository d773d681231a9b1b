"""Whether an exported model answers as its checkpoint does, on images of the user or drawn ones."""

import itertools
import time
from typing import List, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from inference.config import Size
from inference.detector import prepare_image
from inference.folder import images_by_stem
from inference.networks import ScoreNetwork, pad_image
from tools.demo_scene import draw_scene
from utils.image_io import read_image

# Lying and standing, so that mixed up axes are noticed.
_SIDE, _SHORT_SIDE = 640, 448


class Pictures(NamedTuple):
    """``images`` uint8 (H, W, 3) BGR each, and what they are, for people."""

    images: List[np.ndarray]
    description: str


def find_pictures(folder: str, count: int, max_pixels: int) -> Pictures:
    """Reads the first images of a folder, or draws two pictures with words.

    Args:
        folder: with images; '' for drawn ones.
        count: how many of the folder's images are read.
        max_pixels: an image that has more cannot be read.

    Returns:
        At least one picture.

    Raises:
        PSENetError: the folder holds no image, or one of the first cannot be read.
    """
    if not folder:
        return Pictures(_draw(), '2 pictures that were drawn')
    paths = list(itertools.islice(images_by_stem(folder).values(), count))
    images = [read_image(path, max_pixels=max_pixels) for path in paths]
    return Pictures(images, f'{len(images)} images of {folder}')


def _draw() -> List[np.ndarray]:
    lying, standing = (draw_scene(np.random.RandomState(seed), _SIDE).image for seed in (0, 1))
    return [lying[:_SHORT_SIDE], standing[:, :_SHORT_SIDE]]


class Answers(NamedTuple):
    """What a network gives for images: their score maps, and the milliseconds of each run."""

    score_maps: List[np.ndarray]
    milliseconds: List[float]


class Difference(NamedTuple):
    """A network against the checkpoint's, on the same images.

    maximum: largest difference of two scores, 0..1; inf where a score is not a number.
    milliseconds: median of the runs with the larger images.
    of_checkpoint: the same for the checkpoint's network.
    """

    maximum: float
    milliseconds: float
    of_checkpoint: float


def inputs_at_two_sizes(images_bgr: Sequence[np.ndarray], max_side_len: int) -> List[np.ndarray]:
    """Prepares each image as eval.py does, once as large as may be and once half as long.

    Args:
        images_bgr: uint8 (H, W, 3) each, BGR.
        max_side_len: longer images are shrunk to this.

    Returns:
        uint8 (h, w, 3) each, RGB, sides multiples of 32; all large ones first.
    """
    return [prepare_image(image, min(max_side_len, max(image.shape[:2])) // divisor).image_rgb
            for divisor in (1, 2) for image in images_bgr]


def inputs_of_size(images_bgr: Sequence[np.ndarray], size: Size) -> List[np.ndarray]:
    """Prepares each image as eval.py does for a network of one size.

    Args:
        images_bgr: uint8 (H, W, 3) each, BGR.
        size: (width, height).

    Returns:
        uint8 (h, w, 3) each, RGB, sides multiples of 32, padded to that size.
    """
    return [pad_image(prepare_image(image, max(size), (size,)).image_rgb, size)
            for image in images_bgr]


def sizes_of(inputs: Sequence[np.ndarray]) -> List[str]:
    """The sizes that occur, as width x height, in their order."""
    return list(dict.fromkeys('{1}x{0}'.format(*image.shape) for image in inputs))


def answers_of(network: ScoreNetwork, inputs: Sequence[np.ndarray], name: str) -> Answers:
    """Runs a network on images behind a progress bar.

    Args:
        network: what to run.
        inputs: uint8 (h, w, 3) each, RGB.
        name: of the network, for people.

    Returns:
        What it gave, in the order of the images.
    """
    network.score_maps(inputs[-1])  # the first run takes longer
    score_maps, milliseconds = [], []
    for image in tqdm(inputs, desc=f'running {name}', unit='image'):
        start = time.perf_counter()
        score_maps.append(network.score_maps(image))
        milliseconds.append(1000 * (time.perf_counter() - start))
    return Answers(score_maps, milliseconds)


def compare(found: Answers, expected: Answers) -> Difference:
    """Compares what two networks gave for the images of ``inputs_at_two_sizes``.

    Args:
        found: of the exported model.
        expected: of the checkpoint.

    Returns:
        How far they are apart.
    """
    differences = [_maximum(ours, theirs)
                   for ours, theirs in zip(found.score_maps, expected.score_maps)]
    large = slice(len(differences) // 2)
    return Difference(max(differences), float(np.median(found.milliseconds[large])),
                      float(np.median(expected.milliseconds[large])))


def _maximum(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float('inf')
    return float(np.abs(ours - theirs).max())
