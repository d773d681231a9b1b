"""Going through a folder of images with a detector that finds the same box everywhere."""

import logging
import os
from typing import NamedTuple

import numpy as np
import pytest

from inference.folder import Summary, detect_folder, images_by_stem
from inference.results import read_result
from utils.errors import PSENetError
from utils.image_io import read_image, write_image
from utils.utils_tool import logger

BOX = np.array([[(2, 2), (12, 2), (12, 9), (2, 9)]], np.int32)


class Found(NamedTuple):
    """Has the fields of a Detection."""

    boxes: np.ndarray = BOX
    net_seconds: float = 2.0
    post_seconds: float = 0.5


@pytest.fixture
def images(tmp_path):
    """Three images, the second of which cannot be read."""
    folder = tmp_path / 'images'
    folder.mkdir()
    write_image(str(folder / 'img_1.jpg'), np.full((20, 30, 3), 128, np.uint8))
    (folder / 'img_2.JPEG').write_bytes(b'no image')
    write_image(str(folder / 'img_3.PNG'), np.full((20, 30, 3), 128, np.uint8))
    return folder


@pytest.fixture
def output(tmp_path):
    """An empty output folder."""
    folder = tmp_path / 'output'
    folder.mkdir()
    return folder


@pytest.fixture
def messages(caplog):
    """What was logged; the project's logger is made to pass it on."""
    propagate, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, logger.name)
    yield caplog
    logger.propagate = propagate


def test_images_are_found_in_order_by_their_stems(images):
    assert list(images_by_stem(str(images)).items()) == [
        (stem, str(images / name)) for stem, name in
        [('img_1', 'img_1.jpg'), ('img_2', 'img_2.JPEG'), ('img_3', 'img_3.PNG')]]


def test_two_images_of_one_stem_are_refused(images):
    (images / 'img_1.png').write_bytes(b'')
    with pytest.raises(PSENetError, match=r'img_1\.jpg and .*img_1\.png .* rename'):
        images_by_stem(str(images))


def test_every_image_gets_a_result_file(images, output, messages):
    summary = detect_folder(lambda image: Found(), images_by_stem(str(images)), str(output))
    assert sorted(os.listdir(str(output))) == [
        'res_img_1.jpg', 'res_img_1.txt', 'res_img_2.txt', 'res_img_3.PNG', 'res_img_3.txt']
    for stem, boxes in (('img_1', BOX), ('img_2', BOX[:0]), ('img_3', BOX)):
        np.testing.assert_array_equal(read_result(str(output / f'res_{stem}.txt')), boxes)
    assert summary[:5] == (3, 1, 2, 4.0, 1.0)
    assert summary.total_seconds > 0
    assert [r.levelname for r in messages.records if 'img_2.JPEG' in r.message] == ['ERROR']


def test_boxes_are_drawn_on_the_written_image(images, output):
    detect_folder(lambda image: Found(), images_by_stem(str(images)), str(output))
    drawn = read_image(str(output / 'res_img_3.PNG'))
    assert drawn.shape == (20, 30, 3)
    assert (drawn[2, 7] != 128).any()
    assert (drawn[18, 28] == 128).all()


def test_images_are_left_out_on_demand(images, output):
    detect_folder(lambda image: Found(), images_by_stem(str(images)), str(output),
                  write_images=False)
    assert {name[-4:] for name in os.listdir(str(output))} == {'.txt'}


def test_an_error_of_the_detector_is_not_swallowed(images, output):
    def fail(image):
        raise PSENetError('too little memory')

    with pytest.raises(PSENetError, match='memory'):
        detect_folder(fail, images_by_stem(str(images)), str(output))


def test_the_summary_gives_seconds_in_all_and_per_image():
    assert Summary(4, 0, 10, 2.0, 0.01, 3.0).line() == (
        'images: 4, boxes: 10, network 2.00 s (0.5000 s/image), post-processing 0.01 s '
        '(0.0025 s/image), total 3.00 s (0.7500 s/image)')
