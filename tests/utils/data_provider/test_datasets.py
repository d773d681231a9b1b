"""Pairs by name, whatever the names, and counts that add up."""

import numpy as np
import pytest
from PIL import Image

from utils.data_provider import datasets
from utils.data_provider.batching import SampleReader
from utils.data_provider.datasets import (
    inspect_dataset,
    load_dataset,
    load_mixture,
    split_mixture,
)
from utils.data_provider.pairing import DATASETS, pair_files
from utils.errors import PSENetError
from utils.image_io import is_image_name, write_image

NAMES = DATASETS['icdar'].label_names


def paired(names):
    return pair_files([name for name in names if is_image_name(name)], names, NAMES)


def test_pairs_by_either_name_and_any_case_of_the_extension():
    names = ['1.JPG', '1.TXT', 'a.b.jpeg', 'gt_a.b.txt', 'gt_img_2.Txt', 'img_2.PnG', 'img_3.png',
             'notes.txt', 'thumbs.db']
    assert paired(names) == {
        '1.JPG': '1.TXT', 'a.b.jpeg': 'gt_a.b.txt', 'img_2.PnG': 'gt_img_2.Txt'}


def test_the_plain_name_comes_first():
    assert paired(['x.jpg', 'gt_x.txt', 'x.txt']) == {'x.jpg': 'x.txt'}


def test_names_that_almost_match_do_not():
    assert paired(['img_1.jpg', 'gt_img_10.txt', 'img_1.jpg.txt', 'GT_img_1.txt']) == {}


def test_names_with_braces_are_names():
    assert paired(['{0}.jpg', '{0}.txt']) == {'{0}.jpg': '{0}.txt'}


def test_samples_are_valid_and_counted(make_folder):
    directory = make_folder(3)
    (directory / 'gt_img_2.txt').write_text(
        '10,10,60,12,58,40,12,38,###\n500,10,600,10,600,40,500,40,outside\n-5,-5,20,20,corner\n')
    (directory / 'gt_img_3.txt').write_text('')
    samples, counts = load_dataset(str(directory))
    assert [sample.image_path for sample in samples] == [
        str(directory / f'img_{number}.png') for number in (1, 2, 3)]
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
    directory = make_folder(6)
    (directory / 'gt_img_1.txt').write_bytes(b'\xff\xfe')
    (directory / 'img_2.png').write_bytes(b'')
    (directory / 'img_3.png').write_bytes(b'no image')
    (directory / 'gt_img_4.txt').write_text('1,2,3')
    samples, counts = load_dataset(str(directory))
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
    directory = make_folder(4)
    for number in (1, 4):
        (directory / f'gt_img_{number}.txt').unlink()
    _, counts = load_dataset(str(directory))
    assert (counts.images, counts.labels, counts.pairs) == (4, 2, 2)
    record, = warnings.records
    assert '2 images' in record.getMessage()
    assert 'img_1.png' in record.getMessage()


def test_findings_name_every_place(make_folder, warnings):
    directory = make_folder(5)
    (directory / 'gt_img_1.txt').write_text('10,10,60,12,58,40,12,38,a\n\n5,5,5,5,5,5,5,5,b\n')
    (directory / 'gt_img_2.txt').write_text('1,2,3')
    (directory / 'gt_img_3.txt').rename(directory / 'notes.txt')
    (directory / 'img_4.txt').write_text('')
    samples, counts, findings = inspect_dataset(str(directory))
    assert findings.unlabelled_images == [str(directory / 'img_3.png')]
    assert findings.unused_labels == [
        str(directory / name) for name in ('gt_img_4.txt', 'notes.txt')]
    sentence, = findings.unreadable
    assert f'{directory}/gt_img_2.txt:1' in sentence
    assert findings.invalid_polygons == [f'{directory}/gt_img_1.txt:3']
    assert len(samples) == counts.usable_images == 3
    assert (counts.unreadable, counts.invalid_polygons) == (1, 1)
    assert not warnings.records
    assert load_dataset(str(directory))[1] == counts


def test_folders_named_like_files_are_passed_over(make_folder):
    directory = make_folder(1)
    (directory / 'sub.jpg').mkdir()
    (directory / 'sub.txt').mkdir()
    _, counts = load_dataset(str(directory))
    assert (counts.images, counts.labels) == (1, 1)


def test_a_folder_called_like_an_extension(tmp_path, make_folder):
    directory = tmp_path / 'jpg.png 数据'
    make_folder(2).rename(directory)
    samples, _ = load_dataset(str(directory))
    assert len(samples) == 2


def test_images_may_be_of_any_format_that_opencv_reads(make_folder):
    directory = make_folder(1)
    write_image(str(directory / 'other.bmp'), np.full((30, 40, 3), 200, np.uint8))
    (directory / 'other.bmp').rename(directory / 'img_1.png')
    samples, _ = load_dataset(str(directory))
    assert samples[0].size == (30, 40)


def test_an_unknown_dataset_and_a_missing_folder(tmp_path):
    with pytest.raises(PSENetError, match='choose one of auto, icdar'):
        load_dataset(str(tmp_path), 'imagenet')
    with pytest.raises(PSENetError, match='No such file or directory'):
        load_dataset(str(tmp_path / 'none'))


def test_the_real_folder(icdar_dir):
    samples, counts = load_dataset(str(icdar_dir / 'train'))
    assert len(samples) == 1000
    assert {sample.size for sample in samples} == {(720, 1280)}
    assert counts[:5] == (1000, 1000, 1000, 1000, 11886)
    assert (counts.ignored_boxes, counts.usable_regions, counts.unreadable) == (7418, 4468, 0)


def test_hidden_files_are_passed_over(make_folder):
    directory = make_folder(2)
    for name in ('._img_1.png', '._gt_img_1.txt', '.gt_img_9.txt'):
        (directory / name).write_bytes(b'\0\5\x16\7')
    counts = load_dataset(str(directory))[1]
    assert (counts.images, counts.labels, counts.pairs, counts.unreadable) == (2, 2, 2, 0)


def test_links_that_lead_nowhere_are_counted(make_folder, warnings):
    directory = make_folder(2)
    (directory / 'img_2.png').unlink()
    (directory / 'img_2.png').symlink_to('nowhere')
    counts = load_dataset(str(directory))[1]
    assert (counts.images, counts.pairs, counts.unreadable) == (2, 2, 1)
    assert 'img_2.png: No such file' in warnings.text


def test_images_of_other_formats_are_named(make_folder, warnings):
    directory = make_folder(1)
    (directory / 'img_2.heic').write_bytes(b'')
    load_dataset(str(directory))
    assert 'ignored: img_2.heic' in warnings.text


@pytest.fixture
def turned_folder(make_folder):
    """Two images of 96 x 64 stored pixels, the second with EXIF orientation 6."""
    directory = make_folder(2)
    (directory / 'img_2.png').unlink()
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', (96, 64)).save(str(directory / 'img_2.jpg'), exif=exif)
    return directory


def test_an_exif_orientation_is_told_of(turned_folder):
    samples, counts, findings = inspect_dataset(str(turned_folder))
    assert [sample.size for sample in samples] == [(64, 96)] * 2
    assert '; 1 image has EXIF orientation 6, which is ignored (--apply_exif' in str(counts)
    assert findings.turned_images == [f'{turned_folder}/img_2.jpg: orientation 6']


def test_an_exif_orientation_is_applied_on_demand(turned_folder):
    samples, counts, findings = inspect_dataset(str(turned_folder), apply_exif_orientation=True)
    assert [sample.size for sample in samples] == [(64, 96), (96, 64)]
    assert str(counts).endswith('; 1 image has EXIF orientation 6, which is applied')
    assert findings.turned_images == []
    assert SampleReader(samples).read(1, False).shape == (96, 64, 3)
    assert SampleReader(samples).read(1, True).shape == (48, 32, 3)


def test_a_large_folder_tells_how_far_its_reading_is(make_folder, warnings, monkeypatch):
    monkeypatch.setattr(datasets, '_REPORT_SECONDS', -1.0)
    directory = make_folder(2)
    load_dataset(str(directory))
    assert f'reading {directory}: 1 of 2 images' in warnings.text


def test_sub_folders_are_entered_only_where_the_folder_has_no_image(make_folder, tmp_path):
    directory = make_folder(2)
    top = tmp_path / 'top'
    for name in ('a', 'b/c'):
        (top / name).mkdir(parents=True)
    (directory / 'img_1.png').rename(top / 'a' / 'img_1.png')
    (directory / 'gt_img_1.txt').rename(top / 'a' / 'gt_img_1.txt')
    (directory / 'img_2.png').rename(top / 'b/c' / 'img_1.png')
    (directory / 'gt_img_2.txt').rename(top / 'b/c' / 'img_1.txt')
    # A link to a directory above is no reason to go round and round.
    (top / 'a' / 'round').symlink_to(top)
    samples, counts = load_dataset(str(top))
    assert [sample.image_path for sample in samples] == [
        str(top / 'a' / 'img_1.png'), str(top / 'b/c' / 'img_1.png')]
    assert counts.pairs == counts.labels == 2
    image = top / 'img_9.png'
    image.write_bytes((top / 'a' / 'img_1.png').read_bytes())
    assert load_dataset(str(top))[1].images == 1


def test_nested_images_and_labels_apart(make_folder):
    directory = make_folder(1)
    for name, kind in (('img_1.png', 'images'), ('gt_img_1.txt', 'gt')):
        (directory / kind / 'x').mkdir(parents=True)
        (directory / name).rename(directory / kind / 'x' / name)
    assert load_dataset(str(directory))[1].usable_regions == 1


@pytest.mark.parametrize(('path', 'expected'), [
    ('A:0.5,B:0.5', [('A', 0.5), ('B', 0.5)]), ('a b:3, c:1', [('a b', 0.75), ('c', 0.25)]),
    ('./ocr/x', [('./ocr/x', 1)]), ('C:/x', [('C:/x', 1)]), ('A:2', [('A', 1)]),
    ('A:1,B', [('A:1,B', 1)]),
])
def test_mixtures_are_written_with_weights(path, expected):
    assert split_mixture(path) == expected


@pytest.mark.parametrize('path', ['A:0,B:1', 'A:0.0001,B:1'])
def test_a_weight_that_cannot_be_met_is_refused(path):
    with pytest.raises(PSENetError, match='each weight must be at least'):
        split_mixture(path)


def test_sets_of_a_mixture_have_their_own_forms(make_folder, tmp_path):
    one = make_folder(3)
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'img_9.png').write_bytes((one / 'img_1.png').read_bytes())
    (other / 'img_9.gt').write_text('0 1 10 10 50 20 0.1\n1 0 10 10 50 20 0.1\n')
    samples, counts, shares = load_mixture(f'{one}:1,{other}:3')
    assert shares == ((3, 0.25), (1, 0.75))
    assert [len(sample.polygons) for sample in samples] == [1, 1, 1, 2]
    assert (counts.usable_images, counts.boxes, counts.ignored_boxes) == (4, 5, 1)
    with pytest.raises(PSENetError, match='--label_path=x works with one set'):
        load_mixture(f'{one}:1,{other}:3', label_folder='x')
    (other / 'img_9.gt').write_text('0 1 10 10 50 20 0.1\n')
    with pytest.raises(PSENetError, match='other has nothing to train on'):
        load_mixture(f'{one}:1,{other}:3')
