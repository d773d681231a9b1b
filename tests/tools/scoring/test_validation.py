"""Images and ground truth: what belongs together, and what is said where it does not."""

import os
import shutil
import zipfile

import numpy as np
import pytest

from tests.tools.scoring.conftest import Blots
from tools.scoring.grid import Levels, store_maps
from tools.scoring.validation import (
    digest_of_truth,
    open_validation,
    sample_id,
    score_boxes,
)
from utils.errors import PSENetError
from utils.image_io import read_image


@pytest.fixture
def directory(data, tmp_path):
    """A directory of images that a test may change."""
    shutil.copytree(str(data / 'images'), str(tmp_path / 'images'))
    return tmp_path / 'images'


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    return caplog


def test_images_are_known_by_the_numbers_in_their_names(data, messages):
    validation = open_validation(str(data / 'images'), str(data / 'gt.zip'))
    assert {key: os.path.basename(path) for key, path in validation.images.items()} == {
        '1': 'img_1.png', '2': 'img_2.png', '3': 'img_3.png', '4': 'img_4.png'}
    assert set(validation.ground_truth) == set(validation.images)
    assert not [record for record in messages.records if record.name == 'psenet']


@pytest.mark.parametrize('stem, expected', [('img_7', '7'), ('img_a', None), ('7', None)])
def test_ids_follow_the_rule_of_scoring(stem, expected):
    assert sample_id(stem) == expected


def test_images_of_other_names_and_samples_without_image_are_counted(data, directory, messages):
    (directory / 'img_1.png').rename(directory / 'holiday.png')
    validation = open_validation(str(directory), str(data / 'gt.zip'))
    assert set(validation.images) == {'2', '3', '4'}
    assert '1 of 4 images' in messages.text
    assert '1 of the 4 samples' in messages.text


def test_an_image_without_ground_truth_is_refused(data, directory):
    (directory / 'img_1.png').rename(directory / 'img_99.png')
    with pytest.raises(PSENetError, match=r'no sample gt_img_99.txt .*img_99.png'):
        open_validation(str(directory), str(data / 'gt.zip'))


def test_images_of_any_name(data, directory, tmp_path, messages):
    (directory / 'img_1.png').rename(directory / 'holiday.png')
    with zipfile.ZipFile(str(data / 'gt.zip')) as source, \
            zipfile.ZipFile(str(tmp_path / 'gt.zip'), 'w') as target:
        for name in source.namelist():
            target.writestr(name.replace('gt_img_1.txt', 'gt_holiday.txt'), source.read(name))
    validation = open_validation(str(directory), str(tmp_path / 'gt.zip'))
    assert sorted(validation.images) == ['holiday', 'img_2', 'img_3', 'img_4']
    assert not [record for record in messages.records if record.name == 'psenet']
    boxes = {key: sample.quads for key, sample in validation.ground_truth.items()}
    assert score_boxes(validation.ground_truth, boxes).hmean == 1


def test_a_folder_without_such_images_is_refused(data, tmp_path):
    shutil.copy(str(data / 'images' / 'img_1.png'), str(tmp_path / 'holiday.png'))
    with pytest.raises(PSENetError, match='img_<number>'):
        open_validation(str(tmp_path), str(data / 'gt.zip'))


def test_an_archive_that_cannot_be_read_is_named(data):
    with pytest.raises(PSENetError, match=r'none\.zip does not exist'):
        open_validation(str(data / 'images'), 'none.zip')


def test_an_unreadable_image_stops_before_anything_is_scored(data, directory, tmp_path):
    (directory / 'img_2.png').write_bytes(b'no image')
    validation = open_validation(str(directory), str(data / 'gt.zip'))
    with pytest.raises(PSENetError, match=r'img_2.png.*nothing is scored'):
        store_maps(Blots(), validation.images, Levels([0.5]), str(tmp_path), read_image)


def test_a_folder_of_labels_is_scored_as_polygons(data, tmp_path, messages):
    images = tmp_path / 'images'
    images.mkdir()
    for number in (1, 2):
        shutil.copy(str(data / 'images' / f'img_{number}.png'), str(images))
    labels = tmp_path / 'labels'
    labels.mkdir()
    ring = '10,10,60,12,70,20,58,40,12,38'
    (labels / 'gt_img_1.txt').write_text(f'{ring},word\n0,0,5,0,5,5,0,5,1,1,###\n')
    (labels / 'gt_img_2.txt').write_text(f'{ring},word\n')
    validation = open_validation(str(images), str(labels))
    assert list(validation.images) == ['img_1', 'img_2']
    assert [region.ignored for region in validation.ground_truth['img_1']] == [False, True]
    points = np.array(ring.split(','), np.int32).reshape(-1, 2)
    score = score_boxes(validation.ground_truth, {'img_1': [points, points + 90], 'img_2': []})
    assert (score.precision, score.recall, score.hmean) == (0.5, 0.5, 0.5)
    before = digest_of_truth(str(labels))
    (labels / 'gt_img_2.txt').write_text('')
    assert digest_of_truth(str(labels)) != before
    (labels / 'gt_img_2.txt').unlink()
    with pytest.raises(PSENetError, match=r'has no sample gt_img_2.txt'):
        open_validation(str(images), str(labels))
