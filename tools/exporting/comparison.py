"""Comparison of an exported model with its checkpoint, on given or synthetic images."""

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

# Sides of the synthetic images, one in landscape and one in portrait, to notice swapped axes.
_SIDE, _SHORT_SIDE = 640, 448


class ComparisonImages(NamedTuple):
    """Images, uint8 (H, W, 3) BGR each, and their description for messages."""

    images: List[np.ndarray]
    description: str


def find_images(directory: str, count: int, max_pixels: int) -> ComparisonImages:
    """Reads the first images of a directory, or draws two images with words.

    Args:
        directory: contains images; '' for synthetic ones.
        count: number of images to read from the directory.
        max_pixels: an image with more pixels is an error.

    Returns:
        At least one image.

    Raises:
        PSENetError: the directory has no image, or one of the first cannot be read.
    """
    if not directory:
        landscape, portrait = (draw_scene(np.random.RandomState(seed), _SIDE).image
                               for seed in (0, 1))
        return ComparisonImages([landscape[:_SHORT_SIDE], portrait[:, :_SHORT_SIDE]],
                                  '2 synthetic images')
    paths = list(itertools.islice(images_by_stem(directory).values(), count))
    images = [read_image(path, max_pixels=max_pixels) for path in paths]
    return ComparisonImages(images, f'{len(images)} images of {directory}')


class Outputs(NamedTuple):
    """Score maps that a network returned, and the milliseconds of each run."""

    score_maps: List[np.ndarray]
    milliseconds: List[float]


class Difference(NamedTuple):
    """Comparison of a model with the checkpoint's network on the same images.

    maximum: largest difference of two scores, 0..1; inf if a score is not finite.
    milliseconds: median over the runs with the larger images.
    of_checkpoint: the same for the checkpoint's network.
    """

    maximum: float
    milliseconds: float
    of_checkpoint: float


def inputs_at_two_sizes(images_bgr: Sequence[np.ndarray], max_side_len: int) -> List[np.ndarray]:
    """Prepares each image as eval.py does, at full and at half size.

    Args:
        images_bgr: uint8 (H, W, 3) each, BGR.
        max_side_len: longer images are shrunk to this.

    Returns:
        uint8 (h, w, 3) each, RGB, sides multiples of 32; all images at full size come first.
    """
    return [prepare_image(image, min(max_side_len, max(image.shape[:2])) // divisor).image_rgb
            for divisor in (1, 2) for image in images_bgr]


def inputs_of_size(images_bgr: Sequence[np.ndarray], size: Size) -> List[np.ndarray]:
    """Prepares each image as eval.py does for a network of fixed size.

    Args:
        images_bgr: uint8 (H, W, 3) each, BGR.
        size: (width, height).

    Returns:
        uint8 (h, w, 3) each, RGB, sides multiples of 32, padded to that size.
    """
    return [pad_image(prepare_image(image, max(size), (size,)).image_rgb, size)
            for image in images_bgr]


def sizes_of(inputs: Sequence[np.ndarray]) -> List[str]:
    """Lists the distinct sizes of images as width x height, in order."""
    return list(dict.fromkeys('{1}x{0}'.format(*image.shape) for image in inputs))


def outputs_of(network: ScoreNetwork, inputs: Sequence[np.ndarray], name: str) -> Outputs:
    """Runs a network on images, with a progress bar.

    Args:
        network: network to run.
        inputs: uint8 (h, w, 3) each, RGB.
        name: name of the network, for the progress bar.

    Returns:
        Its outputs in the order of the images.
    """
    network.score_maps(inputs[-1])  # the first run takes longer
    score_maps, milliseconds = [], []
    for image in tqdm(inputs, desc=f'running {name}', unit='image'):
        start = time.perf_counter()
        score_maps.append(network.score_maps(image))
        milliseconds.append(1000 * (time.perf_counter() - start))
    return Outputs(score_maps, milliseconds)


def compare(found: Outputs, expected: Outputs) -> Difference:
    """Compares the outputs of two networks for the images of ``inputs_at_two_sizes``.

    Args:
        found: outputs of the exported model.
        expected: outputs of the checkpoint's network.
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
