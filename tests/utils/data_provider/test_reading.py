"""Images are decoded once where there is room to keep them, and never change by being kept."""

import cv2
import numpy as np
import pytest

from utils.data_provider import batching
from utils.data_provider.batching import SampleReader
from utils.data_provider.datasets import Sample
from utils.image_io import ImageError, read_image

SIZE = (64, 96)
FULL_BYTES = 64 * 96 * 3


@pytest.fixture
def samples(tmp_path):
    """Three images in JPEG."""
    samples = []
    for number in range(3):
        pixels = np.random.RandomState(number).randint(0, 256, (8, 12, 3)).astype(np.uint8)
        path = str(tmp_path / f'{number}.jpg')
        cv2.imwrite(path, cv2.resize(pixels, SIZE[::-1]))
        samples.append(Sample(path, SIZE, [], np.zeros(0, np.bool_)))
    return samples


@pytest.fixture
def reads(monkeypatch):
    """The arguments of every call of read_image."""
    seen = []
    monkeypatch.setattr(batching, 'read_image',
                        lambda *args: seen.append(args) or read_image(*args))
    return seen


def test_an_image_is_decoded_to_half_its_size_on_request(samples, reads):
    reader = SampleReader(samples)
    assert reader.read(0, False).shape[:2] == SIZE
    assert reader.read(0, True).shape[:2] == (32, 48)
    assert [halved for _, halved, *_ in reads] == [False, True]


def test_nothing_is_kept_without_room(samples, reads):
    reader = SampleReader(samples, FULL_BYTES - 1)
    assert reader.read(0, False) is not reader.read(0, False)
    assert len(reads) == 2


def test_the_first_that_fit_are_kept(samples, reads):
    reader = SampleReader(samples, 2 * FULL_BYTES + FULL_BYTES // 4)
    for _ in range(3):
        for index in range(3):
            np.testing.assert_array_equal(reader.read(index, False),
                                          read_image(samples[index].image_path))
        # A half has room where a whole has none.
        assert reader.read(2, True).shape[:2] == (32, 48)
    paths = [sample.image_path for sample in samples]
    assert [paths.index(path) for path, *_ in reads] == [0, 1, 2, 2, 2, 2]


def test_a_kept_whole_is_no_source_of_a_half(samples):
    keeping, plain = SampleReader(samples, 10 ** 6), SampleReader(samples)
    for halved in (False, True, False, True):
        np.testing.assert_array_equal(keeping.read(0, halved), plain.read(0, halved))


def test_a_broken_image_is_remembered(samples):
    with open(samples[1].image_path, 'wb'):
        pass
    reader = SampleReader(samples, 10 ** 6)
    reader.read(0, False)
    with pytest.raises(ImageError, match='empty'):
        reader.read(1, False)
    assert reader.broken == {1}


def test_an_image_that_has_grown_is_not_decoded(samples, monkeypatch):
    cv2.imwrite(samples[1].image_path, np.zeros((65, 96, 3), np.uint8))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was to be decoded'))
    with pytest.raises(ImageError, match='96 x 65 pixels, more than the maximum of 6144'):
        SampleReader(samples).read(1, False)
