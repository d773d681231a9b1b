"""Tiles cover an image once, and their score maps are those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.config import DetectConfig
from inference.detector import Detector
from inference.networks import Network
from inference.tiles import MARGIN, MIN_TILE_SIDE, spans, tiled_score_maps


@given(st.integers(1, 400), st.integers(MIN_TILE_SIDE // 32, 80))
def test_spans_cover_an_axis_once(length, side):
    length, side = 32 * length, 32 * side
    found = list(spans(length, side))
    assert [span.kept_start for span in found] == [0] + [span.kept_stop for span in found[:-1]]
    assert found[-1].kept_stop == length
    for span in found:
        assert span.stop - span.start == min(side, length)
        assert span.start % 32 == 0
        assert span.kept_start < span.kept_stop
        assert span.start == 0 or span.kept_start - span.start >= MARGIN
        assert span.stop == length or span.stop - span.kept_stop >= MARGIN


def test_an_image_that_fits_is_one_tile():
    seen = []

    def score_maps(image_rgb):
        seen.append(image_rgb.shape)
        return np.zeros((16, 24, 6), np.float32)
    assert tiled_score_maps(score_maps, np.zeros((64, 96, 3), np.uint8), 672).shape == (16, 24, 6)
    assert seen == [(64, 96, 3)]


@pytest.fixture(scope='module')
def network(checkpoint):
    """A network of random weights."""
    network = Network(checkpoint)
    yield network
    network.close()


def test_the_maps_are_those_of_the_whole_image(network):
    image = np.random.RandomState(0).randint(0, 256, (704, 736, 3)).astype(np.uint8)
    whole = network.score_maps(image)
    tiled = tiled_score_maps(network.score_maps, image, MIN_TILE_SIDE)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_a_detector_with_tiles_finds_what_one_with_room_finds(network):
    image = np.random.RandomState(1).randint(0, 256, (96, 1000, 3)).astype(np.uint8)
    roomy = DetectConfig(seg_map_thresh=0.5, min_area_thresh=1, max_side_len=1024)
    tiled = roomy._replace(max_side_len=MIN_TILE_SIDE + 5, tile=True)
    tiled = Detector(network, tiled).detect(image).polygons
    roomy = Detector(network, roomy).detect(image).polygons
    assert len(roomy)
    np.testing.assert_array_equal(tiled, roomy)
