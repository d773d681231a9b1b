"""What a badly trained network answers, and maps larger than those of any image.

Nothing here is timed. But work that is more than a little for each pixel and each label, as a
search of the map for every label is, would run into the tests' time limit.
"""

import numpy as np
import pytest

from inference.postprocess import detect
from pse import pse, pse_from_scores, row_extents
from tests.pse.oracle import expand

# As large as the score maps of the longest side that images keep.
SIDE = 608


def checkerboard(height, width):
    """uint8 (height, width): every pixel a component of its own."""
    return (np.indices((height, width)).sum(axis=0) % 2).astype(np.uint8)


@pytest.mark.parametrize('density', [0.05, 0.3, 0.5, 0.6, 0.7, 0.95])
@pytest.mark.parametrize('nested', [False, True], ids=['independent', 'nested'])
def test_noise_equals_the_oracle(density, nested):
    random_state = np.random.RandomState(int(density * 100))
    scores = random_state.rand(60, 80, 1 if nested else 6) ** np.linspace(1, 0.4, 6)
    scores = scores.astype(np.float32)
    threshold = float(np.float32(1 - density))
    kernels = (scores > threshold).transpose(2, 0, 1)[::-1]
    for min_area in (1, 6):
        labels, values = pse_from_scores(scores, threshold, min_area)
        np.testing.assert_array_equal(labels, expand(kernels, min_area))
        assert len(detect(scores, (320, 240), threshold, min_area)) == len(values)


def test_every_second_pixel_is_a_text():
    board = checkerboard(SIDE, SIDE)
    labels, values = pse(np.array([np.ones_like(board), board]), 1)
    assert len(values) == SIDE * SIDE // 2
    np.testing.assert_array_equal(labels[board == 1], values)
    assert (labels > 0).all()
    extents = row_extents(np.where(board, labels, 0), len(values))
    np.testing.assert_array_equal(extents[:, 0], values)
    np.testing.assert_array_equal(extents[:, 1:], np.argwhere(board)[:, [0, 1, 1]])


def test_every_second_pixel_is_too_small_a_text():
    board = checkerboard(SIDE, SIDE)
    scores = np.repeat(board[..., None], 6, axis=2).astype(np.float32)
    assert detect(scores, (4 * SIDE, 4 * SIDE)).shape == (0, 4, 2)
    assert len(detect(scores, (4 * SIDE, 4 * SIDE), 0.9, 1)) == SIDE * SIDE // 2


def test_one_winding_text():
    kernel = np.zeros((SIDE, SIDE), np.uint8)
    kernel[::2] = 1
    kernel[1::4, -1] = kernel[3::4, 0] = 1
    labels, values = pse(np.array([np.ones_like(kernel), kernel]), 6)
    assert values.tolist() == [1]
    assert (labels == 1).all()


def test_teeth_of_a_comb_are_joined_by_the_last_row():
    kernel = np.zeros((SIDE, SIDE), np.uint8)
    kernel[1:-1, ::2] = 1
    kernel[0, ::4] = 1
    kernel[-1] = 1
    assert pse(kernel[np.newaxis], 1)[1].tolist() == [1]


def test_a_map_of_8192_by_8192_pixels_grows_from_one_seed():
    kernels = np.zeros((2, 8192, 8192), np.uint8)
    kernels[0] = 1
    kernels[1, 5000, 3000] = 1
    labels, values = pse(kernels, 1)
    assert values.tolist() == [1]
    assert labels.min() == 1
    assert labels.max() == 1


def test_rectangles_of_a_large_map():
    labels = np.zeros((8192, 4096), np.int32)
    labels[0, 0] = labels[-1, -1] = 1
    labels[:, 2000] = 2
    extents = row_extents(labels, 2)
    assert extents[:2].tolist() == [[1, 0, 0, 0], [1, 8191, 4095, 4095]]
    assert len(extents) == 2 + 8192
