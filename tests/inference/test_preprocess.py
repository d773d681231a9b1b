"""The size at which an image enters the network, and the image itself."""

import cv2
import numpy as np
import pytest

from inference.config import DetectConfig
from inference.detector import Detector, network_size, prepare_image


@pytest.mark.parametrize(('image_size', 'expected'), [
    ((1280, 720), (1280, 736)),
    ((32, 64), (32, 64)),
    ((33, 1), (64, 32)),
    ((2400, 2400), (2400, 2400)),
    ((2401, 100), (2400, 128)),
    ((1200, 4800), (608, 2400)),
    ((1, 100000), (32, 2400)),
])
def test_sizes(image_size, expected):
    assert network_size(image_size, 2400) == expected
    assert network_size(image_size[::-1], 2400) == expected[::-1]


def test_a_limit_that_is_no_multiple_of_32_is_rounded_up():
    assert network_size((2000, 1000), 1000) == (1024, 512)


def test_an_image_is_resized_bilinearly_and_turned_to_rgb():
    image = np.random.RandomState(0).randint(0, 256, (50, 70, 3)).astype(np.uint8)
    image.setflags(write=False)
    prepared = prepare_image(image, 2400)
    assert prepared.geometry.ratios == (96 / 70, 64 / 50)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)[:, :, ::-1]
    np.testing.assert_array_equal(prepared.image_rgb, expected)
    assert prepared.image_rgb.flags.c_contiguous


@pytest.mark.parametrize(('image_size', 'expected'), [
    ((640, 300), (640, 320)),     # it fits, and its padding is not the resize's business
    ((1300, 700), (1280, 704)),   # it exceeds both sizes by a little
    ((2560, 1440), (1280, 736)),
    ((1440, 2560), (736, 1280)),
    ((4000, 4000), (736, 736)),
])
def test_what_exceeds_all_fixed_sizes_is_shrunk_as_little_as_possible(image_size, expected):
    assert network_size(image_size, 2400, [(1280, 736), (736, 1280)]) == expected


@pytest.mark.parametrize(('scale', 'expected'), [
    (1024 / 720, (1824, 1024)), (0.5, (640, 384)), (2, (2400, 1376))])
def test_a_scale_enlarges_and_shrinks_within_the_limit(scale, expected):
    assert network_size((1280, 720), 2400, scale=scale) == expected


@pytest.mark.parametrize(('config', 'expected'), [
    (DetectConfig(short_side=64), (128, 64)), (DetectConfig(long_side=320), (320, 160)),
    (DetectConfig(), (224, 128)), (DetectConfig(short_side=640, tile=True), (1280, 640))])
def test_a_detector_scales_by_either_side_and_tells_what_it_costs(config, expected, caplog,
                                                                  monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    caplog.set_level('INFO', 'psenet')
    detector = Detector(None, config)
    for _ in range(2):
        prepared = detector.prepare(np.zeros((100, 200, 3), np.uint8))
        assert prepared.geometry == (expected, (200, 100))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == int(config.short_side > 0 or config.long_side > 0)
    assert all('times the work of its own size' in line for line in told)
