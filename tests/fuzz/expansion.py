"""Runs the expansion, built with sanitizers, on maps of every kind, and compares small ones.

    make -C pse sanitize
    ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(g++ -print-file-name=libasan.so) \
        $(g++ -print-file-name=libstdc++.so)" python -m tests.fuzz.expansion SECONDS

A report ends the process; `make fuzz` does all of this.
"""

import glob
import importlib.util
import itertools
import json
import os
import sys
import time
from typing import Iterator, List

import numpy as np

from tests.pse.oracle import expand

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'pse', 'sanitized')


def load_sanitized() -> None:
    """Puts the module with sanitizers in the place of the ordinary one."""
    path, = glob.glob(os.path.join(_FOLDER, '_pse*.so'))
    spec = importlib.util.spec_from_file_location('pse._pse', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules['pse._pse'] = module


def special_maps() -> Iterator[np.ndarray]:
    """Yields uint8 (K, H, W), largest kernel first: sizes, depths and layouts at the limits."""
    for shape in ((1, 0, 0), (6, 0, 5), (6, 5, 0), (1, 1, 1), (64, 1, 1), (6, 1, 300), (6, 300, 1)):
        yield np.ones(shape, np.uint8)
    field = np.random.RandomState(0).rand(70, 90)
    for depth in (1, 2, 6, 7, 8, 15, 64):
        nested = np.array([field < 0.9 - 0.8 * index / depth for index in range(depth)], np.uint8)
        yield nested
        yield np.asfortranarray(nested)
        yield nested[:, ::2, ::3]
        yield nested[:, ::-1, ::-1]
        yield nested.transpose(0, 2, 1)


def large_maps() -> Iterator[np.ndarray]:
    """Yields uint8 (K, 8192, 8192): everything, and nothing."""
    yield np.ones((6, 8192, 8192), np.uint8)
    yield np.zeros((1, 8192, 8192), np.uint8)


def random_map(rng: np.random.RandomState) -> np.ndarray:
    """uint8 (K, H, W) of up to 10 kernels and 40 x 40 pixels, nested or not, blobs or noise."""
    depth, height, width = rng.randint(1, 11), rng.randint(1, 41), rng.randint(1, 41)
    field = rng.rand(depth, height, width)
    if rng.rand() < 0.5:
        field = np.broadcast_to(field[:1] + np.linspace(0, rng.rand(), depth)[:, None, None],
                                field.shape)
    kernels = (field < rng.rand()).astype(np.uint8)
    return np.asfortranarray(kernels) if rng.rand() < 0.2 else kernels


def try_map(kernels: np.ndarray, min_area: int) -> None:
    """Expands kernels, and compares with the oracle where that takes no time.

    Args:
        kernels: uint8 (K, H, W), largest first.
        min_area: as for pse.
    """
    from pse import pse, pse_from_scores, row_extents
    labels, values = pse(kernels, min_area)
    extents = row_extents(labels, len(values))
    assert len(values) == len(np.unique(extents[:, 0]))
    if kernels.size > 64 * 90 * 90:
        return
    scores = kernels[::-1].transpose(1, 2, 0).astype(np.float32)
    np.testing.assert_array_equal(pse_from_scores(scores, 0.5, min_area)[0], labels)
    if kernels.size <= 10 * 40 * 40:
        np.testing.assert_array_equal(labels, expand(kernels, min_area))


def main(arguments: List[str]) -> None:
    """Tries the special maps, then random ones for as many seconds as the argument says."""
    load_sanitized()
    end, tried = time.monotonic() + float(arguments[0]), 0
    for kernels in itertools.chain(special_maps(), large_maps()):
        try_map(kernels, 3)
        tried += 1
    rng = np.random.RandomState(0)
    while time.monotonic() < end:
        try_map(random_map(rng), rng.randint(0, 9))
        tried += 1
    print(json.dumps({'inputs': tried, 'how': 'under AddressSanitizer and UBSan'}))


if __name__ == '__main__':
    main(sys.argv[1:])
