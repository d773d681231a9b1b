"""Pairs by name, whatever the names, and counts that add up."""

import numpy as np
import pytest

from utils.data_provider.datasets import DATASETS, inspect_dataset, load_dataset, pair_files
from utils.errors import PSENetError
from utils.image_io import write_image

STEMS = DATASETS['icdar'].label_stems


def test_pairs_by_either_name_and_any_case_of_the_extension():
    names = ['1.JPG', '1.TXT', 'a.b.jpeg', 'gt_a.b.txt', 'gt_img_2.Txt', 'img_2.PnG', 'img_3.png',
             'notes.txt', 'thumbs.db']
    assert pair_files(names, STEMS) == {
        '1.JPG': '1.TXT', 'a.b.jpeg': 'gt_a.b.txt', 'img_2.PnG': 'gt_img_2.Txt'}


def test_the_plain_name_comes_first():
    assert pair_files(['x.jpg', 'gt_x.txt', 'x.txt'], STEMS) == {'x.jpg': 'x.txt'}


def test_names_that_almost_match_do_not():
    assert pair_files(['img_1.jpg', 'gt_img_10.txt', 'img_1.jpg.txt', 'GT_img_1.txt'], STEMS) == {}


def test_names_with_braces_are_names():
    assert pair_files(['{0}.jpg', '{0}.txt'], STEMS) == {'{0}.jpg': '{0}.txt'}


def test_samples_are_valid_and_counted(make_folder):
    folder = make_folder(3)
    (folder / 'gt_img_2.txt').write_text(
        '10,10,60,12,58,40,12,38,###\n500,10,600,10,600,40,500,40,outside\n-5,-5,20,20,corner\n')
    (folder / 'gt_img_3.txt').write_text('')
    samples, counts = load_dataset(str(folder))
    assert [sample.image_path for sample in samples] == [
        str(folder / f'img_{number}.png') for number in (1, 2, 3)]
    assert [sample.size for sample in samples] == [(64, 96)] * 3
    assert [len(sample.polygons) for sample in samples] == [1, 2, 0]
    assert samples[1].ignore_tags.tolist() == [True, False]
    assert samples[1].polygons[1].min() == 0
    assert (counts.images, counts.labels, counts.pairs, counts.usable_images) == (3, 3, 3, 3)
    assert (counts.boxes, counts.ignored_boxes, counts.invalid_polygons) == (4, 1, 1)
    assert counts.usable_regions == 2
    assert '\n' not in str(counts)
    assert '2 usable regions' in str(counts)


def test_a_bad_file_costs_one_warning_and_is_counted(make_folder, warnings):
    folder = make_folder(6)
    (folder / 'gt_img_1.txt').write_bytes(b'\xff\xfe')
    (folder / 'img_2.png').write_bytes(b'')
    (folder / 'img_3.png').write_bytes(b'no image')
    (folder / 'gt_img_4.txt').write_text('1,2,3')
    samples, counts = load_dataset(str(folder))
    assert len(samples) == counts.usable_images == 2
    assert (counts.pairs, counts.unreadable) == (6, 4)
    assert len(warnings.records) == 4
    for name in ('gt_img_1.txt:1', 'img_2.png', 'img_3.png', 'gt_img_4.txt:1'):
        assert sum(name in record.getMessage() for record in warnings.records) == 1


def test_an_image_of_too_many_pixels_is_left_out(make_folder, warnings):
    _, counts = load_dataset(str(make_folder(2)), max_image_pixels=64 * 96 - 1)
    assert (counts.usable_images, counts.unreadable) == (0, 2)
    assert 'img_1.png has 96 x 64 pixels' in warnings.records[0].getMessage()


def test_images_without_labels_share_one_warning(make_folder, warnings):
    folder = make_folder(4)
    for number in (1, 4):
        (folder / f'gt_img_{number}.txt').unlink()
    _, counts = load_dataset(str(folder))
    assert (counts.images, counts.labels, counts.pairs) == (4, 2, 2)
    record, = warnings.records
    assert '2 images' in record.getMessage()
    assert 'img_1.png' in record.getMessage()


def test_findings_name_every_place(make_folder, warnings):
    folder = make_folder(5)
    (folder / 'gt_img_1.txt').write_text('10,10,60,12,58,40,12,38,a\n\n5,5,5,5,5,5,5,5,b\n')
    (folder / 'gt_img_2.txt').write_text('1,2,3')
    (folder / 'gt_img_3.txt').rename(folder / 'notes.txt')
    (folder / 'img_4.txt').write_text('')
    samples, counts, findings = inspect_dataset(str(folder))
    assert findings.unlabelled_images == [str(folder / 'img_3.png')]
    assert findings.unused_labels == [str(folder / name) for name in ('gt_img_4.txt', 'notes.txt')]
    sentence, = findings.unreadable
    assert f'{folder}/gt_img_2.txt:1' in sentence
    assert findings.invalid_polygons == [f'{folder}/gt_img_1.txt:3']
    assert len(samples) == counts.usable_images == 3
    assert (counts.unreadable, counts.invalid_polygons) == (1, 1)
    assert not warnings.records
    assert load_dataset(str(folder))[1] == counts


def test_folders_named_like_files_are_passed_over(make_folder):
    folder = make_folder(1)
    (folder / 'sub.jpg').mkdir()
    (folder / 'sub.txt').mkdir()
    _, counts = load_dataset(str(folder))
    assert (counts.images, counts.labels) == (1, 1)


def test_a_folder_called_like_an_extension(tmp_path, make_folder):
    folder = tmp_path / 'jpg.png 数据'
    make_folder(2).rename(folder)
    samples, _ = load_dataset(str(folder))
    assert len(samples) == 2


def test_images_may_be_of_any_format_that_opencv_reads(make_folder):
    folder = make_folder(1)
    write_image(str(folder / 'other.bmp'), np.full((30, 40, 3), 200, np.uint8))
    (folder / 'other.bmp').rename(folder / 'img_1.png')
    samples, _ = load_dataset(str(folder))
    assert samples[0].size == (30, 40)


def test_an_unknown_dataset_and_a_missing_folder(tmp_path):
    with pytest.raises(PSENetError, match='choose one of icdar'):
        load_dataset(str(tmp_path), 'coco')
    with pytest.raises(PSENetError, match='No such file or directory'):
        load_dataset(str(tmp_path / 'none'))


def test_the_real_folder(icdar_dir):
    samples, counts = load_dataset(str(icdar_dir / 'train'))
    assert len(samples) == 1000
    assert {sample.size for sample in samples} == {(720, 1280)}
    assert counts[:5] == (1000, 1000, 1000, 1000, 11886)
    assert (counts.ignored_boxes, counts.usable_regions, counts.unreadable) == (7418, 4468, 0)
