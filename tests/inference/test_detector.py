"""The detector's steps put together, with a network of random weights."""

import numpy as np
import pytest

from inference.config import DetectConfig
from inference.detector import Detector, prepare_image
from inference.networks import Network, Platform
from inference.postprocess import detect, to_original


@pytest.fixture(scope='module')
def detector(checkpoint):
    """A detector whose thresholds let random weights find something."""
    with Detector(Network(checkpoint), DetectConfig(seg_map_thresh=0.5, min_area_thresh=1,
                                                    max_side_len=96)) as found:
        yield found


def test_detect_puts_the_steps_together(detector):
    image = np.random.RandomState(3).randint(0, 256, (70, 200, 3)).astype(np.uint8)
    image.setflags(write=False)
    regions = detector.detect(image)
    boxes = regions.polygons
    assert ((regions.scores > 0) & (regions.scores <= 1)).all()
    assert boxes.dtype == np.int32
    image_rgb, geometry = prepare_image(image, 96)
    assert image_rgb.shape == (64, 96, 3)
    quads = detect(detector.score_maps(image_rgb), (96, 64), 0.5, 1)
    assert len(boxes)
    np.testing.assert_array_equal(boxes, to_original(quads, geometry)[0])


def test_one_warning_tells_that_images_exceed_the_fixed_sizes(checkpoint, caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    sizes = ((64, 64),)
    network = Network(checkpoint, Platform(input_sizes=sizes))
    with Detector(network, DetectConfig(), sizes) as detector:
        detector.detect(np.zeros((64, 48, 3), np.uint8))
        assert not [r for r in caplog.records if '--npu_input_sizes' in r.message]
        for _ in range(2):
            assert detector.detect(np.zeros((64, 80, 3), np.uint8)).quads.shape[1:] == (4, 2)
    warning, = (r.message for r in caplog.records if '--npu_input_sizes' in r.message)
    assert '80x64' in warning
