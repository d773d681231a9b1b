"""Pictures that an exported model is tried on: a person's own, or drawn ones."""

import itertools
from typing import List, NamedTuple

import numpy as np

from inference.folder import images_by_stem
from tools.demo_synth.scene import draw_scene
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
