"""Going through a directory of images with a detector that finds the same box everywhere."""

import logging
import os
import threading
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image

from inference.detector import prepare_image
from inference.folder import Summary, detect_folder, images_by_stem
from inference.postprocess import Regions
from inference.results import read_result
from utils.errors import PSENetError
from utils.image_io import read_image, write_image
from utils.utils_tool import logger

BOX = np.array([[(2, 2), (12, 2), (12, 9), (2, 9)]], np.int32)


class SameBox:
    """Has the steps of a Detector; the network's answer is the pixel that it saw first."""

    def __init__(self):
        self.threads = {}

    def prepare(self, image_bgr):
        self.threads['prepare'] = threading.current_thread()
        return prepare_image(image_bgr, 2400)

    def score_maps(self, image_rgb):
        self.threads['score_maps'] = threading.current_thread()
        return image_rgb[0, 0].astype(np.float32)

    def find_regions(self, score_maps, geometry):
        self.threads['find_regions'] = threading.current_thread()
        assert geometry.image_size != (30, 20) or geometry.input_size == (32, 32)
        boxes = BOX + int(score_maps[0])
        return Regions(boxes, np.full(len(boxes), 0.5), np.ones(len(boxes)))


@pytest.fixture
def images(tmp_path):
    """Three images, each of one grey, the second of which cannot be read."""
    directory = tmp_path / 'images'
    directory.mkdir()
    write_image(str(directory / 'img_1.jpg'), np.full((20, 30, 3), 0, np.uint8))
    (directory / 'img_2.JPEG').write_bytes(b'no image')
    write_image(str(directory / 'img_3.PNG'), np.full((20, 30, 3), 3, np.uint8))
    return directory


@pytest.fixture
def output(tmp_path):
    """An empty output directory."""
    directory = tmp_path / 'output'
    directory.mkdir()
    return directory


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


def detect(images, output, detector=None, **kwargs):
    return detect_folder(detector or SameBox(), images_by_stem(str(images)), str(output), **kwargs)


def test_every_image_gets_its_own_result_file(images, output, messages):
    summary = detect(images, output)
    assert sorted(os.listdir(str(output))) == [
        'res_img_1.jpg', 'res_img_1.txt', 'res_img_2.txt', 'res_img_3.PNG', 'res_img_3.txt']
    for stem, boxes in (('img_1', BOX), ('img_2', BOX[:0]), ('img_3', BOX + 3)):
        np.testing.assert_array_equal(read_result(str(output / f'res_{stem}.txt')), boxes)
    assert summary[:3] == (3, 1, 2)
    assert 0 < summary.net_seconds + summary.post_seconds < summary.total_seconds
    assert [r.levelname for r in messages.records if 'img_2.JPEG' in r.message] == ['ERROR']


def test_an_image_that_loses_half_of_its_size_is_named(tmp_path, output, messages):
    write_image(str(tmp_path / 'fine.png'), np.zeros((32, 4800), np.uint8))
    write_image(str(tmp_path / 'strip.png'), np.zeros((32, 5000), np.uint8))
    detect(tmp_path, output, write_images=False)
    warning, = (record.message for record in messages.records if 'shrunk' in record.message)
    assert 'strip.png of 5000x32 pixels is shrunk to 0.48 of its size, 2400x32' in warning
    assert '--tile' in warning


def test_a_format_that_cannot_be_written_is_drawn_as_png(tmp_path, output):
    Image.new('L', (30, 20), 3).save(str(tmp_path / 'img_1.gif'))
    opened = cv2.haveImageWriter('a.gif')
    detect(tmp_path / 'img_1.gif', output)
    drawn = 'res_img_1.gif' if opened else 'res_img_1.gif.png'
    assert sorted(os.listdir(str(output))) == sorted([drawn, 'res_img_1.txt'])
    Image.new('L', (30, 20), 3).save(str(tmp_path / 'img_2'), format='png')
    detect(tmp_path / 'img_2', output)
    assert 'res_img_2.png' in os.listdir(str(output))


def test_an_image_of_too_many_pixels_counts_as_unreadable(images, output, messages):
    assert detect(images, output, read=partial(read_image, max_pixels=1)).unreadable == 3
    assert read_result(str(output / 'res_img_1.txt')).shape == (0, 4, 2)
    assert any('more than the maximum of 1;' in record.message for record in messages.records)


def test_the_network_has_the_caller_s_thread_to_itself(images, output):
    detector, before = SameBox(), set(threading.enumerate())
    detect(images, output, detector)
    assert detector.threads['score_maps'] is threading.current_thread()
    assert len(set(detector.threads.values())) == 3
    assert {thread for thread in set(threading.enumerate()) - before
            if thread.name.startswith('ThreadPool')} == set()


def test_boxes_are_drawn_on_the_written_image(images, output):
    detect(images, output)
    drawn = read_image(str(output / 'res_img_3.PNG'))
    assert drawn.shape == (20, 30, 3)
    assert (drawn[5, 10] != 3).any()
    assert (drawn[18, 28] == 3).all()


def test_images_are_left_out_on_demand(images, output):
    detect(images, output, write_images=False)
    assert {name[-4:] for name in os.listdir(str(output))} == {'.txt'}


@pytest.mark.parametrize('step', ['prepare', 'score_maps', 'find_regions'])
@pytest.mark.parametrize('error', [PSENetError, KeyboardInterrupt])
def test_an_error_of_any_step_ends_it_behind_the_images_before(images, output, step, error):
    detector = SameBox()
    whole = getattr(detector, step)

    def fail_at_the_last(*arguments):
        if step not in detector.threads:
            return whole(*arguments)
        raise error('too little memory')

    setattr(detector, step, fail_at_the_last)
    with pytest.raises(error, match='memory'):
        detect(images, output, detector)
    assert os.path.exists(str(output / 'res_img_1.txt'))
    assert not os.path.exists(str(output / 'res_img_3.txt'))


def test_a_folder_that_cannot_be_written_ends_it(images, output):
    output.rmdir()
    with pytest.raises(PSENetError, match=r'res_img_1\.txt'):
        detect(images, output)


def test_the_summary_gives_seconds_in_all_and_per_image():
    assert Summary(4, 0, 10, 2.0, 0.01, 3.0).line() == (
        'images: 4, boxes: 10, network 2.00 s (0.5000 s/image), post-processing 0.01 s '
        '(0.0025 s/image), total 3.00 s (0.7500 s/image)')
