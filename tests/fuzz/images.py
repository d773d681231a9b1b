"""Damages JPEGs and reads them: an image comes of it, or an ImageError.

    python -m tests.fuzz.images COUNT       500 in `make fuzz`
"""

import json
import os
import random
import sys
import tempfile
from typing import List

import numpy as np

from tests.conftest import SHARED
from tools.demo_data import DatasetSpec, ensure_dataset
from utils.image_io import ImageError, list_images, read_image, read_image_size


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cuts a file off, or turns bits in it, half of the time among the headers.

    Args:
        data: the file.
        rng: chooses.

    Returns:
        The damaged file.
    """
    if rng.random() < 0.3:
        return data[:rng.randrange(len(data))]
    changed = bytearray(data)
    within = min(700, len(data)) if rng.random() < 0.5 else len(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        changed[rng.randrange(within)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def try_image(path: str) -> bool:
    """Reads a file in every way; returns whether an image came of it.

    Args:
        path: file to read.

    Raises:
        AssertionError: something else came of it than may.
    """
    try:
        size, image, half = read_image_size(path), read_image(path), read_image(path, halved=True)
    except ImageError as error:
        message = str(error)
    else:
        assert image.dtype == half.dtype == np.uint8
        assert image.shape == (*size, 3)
        assert half.shape == (-(-size[0] // 2), -(-size[1] // 2), 3)
        return True
    assert path in message
    assert '\n' not in message
    return False


def try_damaged_images(count: int) -> int:
    """Damages as many images as asked for, each in its own way, and reads them.

    Args:
        count: how many.

    Returns:
        Of how many an image came.
    """
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        paths = list_images(_originals(directory))
        decoded = 0
        for number in range(count):
            with open(paths[number % len(paths)], 'rb') as file:
                data = damaged(file.read(), rng)
            # Kept at a known place until it has been read.
            path = os.path.join(directory, 'damaged.jpg')
            with open(path, 'wb') as file:
                file.write(data)
            decoded += try_image(path)
    return decoded


def _originals(directory: str) -> str:
    """The directory of the real images, or else of some that are drawn."""
    real = SHARED / 'data' / 'icdar2015' / 'train'
    if real.is_dir():
        return str(real)
    ensure_dataset(os.path.join(directory, 'data'), DatasetSpec(train_images=5, test_images=1))
    return os.path.join(directory, 'data', 'train')


def main(arguments: List[str]) -> None:
    """Reads as many damaged images as the argument says."""
    count = int(arguments[0])
    decoded = try_damaged_images(count)
    print(json.dumps({'inputs': count, 'how': f'{decoded} read, {count - decoded} refused'}))


if __name__ == '__main__':
    main(sys.argv[1:])
