"""Fixed sizes of the network's input: how they are read, chosen, and filled."""

import numpy as np
import pytest

from inference.config import DetectConfig, parse_sizes
from inference.detector import network_size
from inference.networks import next_size, pad_image
from utils.errors import PSENetError

SIZES = ((64, 64), (128, 64), (64, 128), (128, 128))


def test_sizes_are_sorted_by_area():
    assert parse_sizes('128x128, 128x64,64x64,64x128') == (
        (64, 64), (64, 128), (128, 64), (128, 128))


@pytest.mark.parametrize('text', [
    '', '64', '64x', '64x64x64', '64x64;96x96', '64x65', '0x64', '-64x64', '64x64,64x64', 'any'])
def test_what_is_no_list_of_sizes_is_refused(text):
    with pytest.raises(PSENetError, match=f'--npu_input_sizes={text} must be .*multiples of 32'):
        parse_sizes(text)


@pytest.mark.parametrize(('size', 'expected'), [
    ((32, 32), (64, 64)), ((64, 64), (64, 64)), ((96, 64), (128, 64)), ((64, 96), (64, 128)),
    ((96, 96), (128, 128)), ((160, 32), None), ((32, 160), None)])
def test_the_next_size_is_the_smallest_that_holds_the_image(size, expected):
    assert next_size(size, SIZES) == expected


@pytest.mark.parametrize('size', [(1280, 736), (736, 1280)])
def test_the_published_sizes_need_no_padding_by_default(size):
    assert next_size(size, parse_sizes(DetectConfig().npu_input_sizes)) == size


def test_the_default_sizes_hold_every_image_of_the_default_length():
    longest = DetectConfig().max_side_len
    assert next_size((longest, longest), parse_sizes(DetectConfig().npu_input_sizes))


def test_an_image_that_is_too_large_fills_the_size_that_suits_it():
    assert network_size((256, 128), 2400, [(64, 64), (128, 64)]) == (128, 64)
    assert network_size((128, 256), 2400, [(128, 64), (64, 128)]) == (64, 128)


def test_padding_repeats_the_outermost_pixels_right_and_below():
    image = np.random.RandomState(0).randint(0, 256, (32, 64, 3)).astype(np.uint8)
    image.setflags(write=False)
    padded = pad_image(image, (96, 64))
    assert padded.shape == (64, 96, 3)
    np.testing.assert_array_equal(padded[:32, :64], image)
    assert (padded[32:, :64] == image[31]).all()
    assert (padded[:32, 64:] == image[:, 63:]).all()
    assert (padded[32:, 64:] == image[31, 63]).all()
    assert pad_image(image, (64, 32)) is image
