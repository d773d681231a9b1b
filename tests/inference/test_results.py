"""Result files: their exact form, what is packed, and what an earlier run's remains may lose."""

import os
import zipfile

import numpy as np
import pytest

from inference.results import (
    ResultError,
    prepare_output,
    read_result,
    result_path,
    write_archive,
    write_result,
)
from utils.errors import PSENetError

BOXES = np.arange(16, dtype=np.int32).reshape(2, 4, 2)
LINES = b'0,1,2,3,4,5,6,7\r\n8,9,10,11,12,13,14,15\r\n'


def test_scores_end_the_lines_and_are_known_as_results(tmp_path):
    path = write_result(str(tmp_path), 'img_1', BOXES, np.linspace(0, 1, len(BOXES)))
    with open(path) as file:
        lines = file.read().splitlines()
    assert [line.rsplit(',', 1)[1] for line in (lines[0], lines[-1])] == ['0.0000', '1.0000']
    np.testing.assert_array_equal(read_result(path), BOXES)
    triangle = np.int32([[1, 2], [9, 2], [5, 8]])
    path = write_result(str(tmp_path), 'img_2', [triangle], np.float32([0.87654]))
    with open(path, newline='') as file:
        assert file.read() == '1,2,9,2,5,8,0.8765\r\n'
    assert prepare_output(str(tmp_path)) == 2


def test_a_box_is_a_line_that_ends_in_crlf(tmp_path):
    path = write_result(str(tmp_path), 'img_1', BOXES)
    assert path == result_path(str(tmp_path), 'img_1') == str(tmp_path / 'res_img_1.txt')
    assert (tmp_path / 'res_img_1.txt').read_bytes() == LINES


def test_no_boxes_make_an_empty_file(tmp_path):
    write_result(str(tmp_path), 'img_1', np.zeros((0, 4, 2), np.int32))
    assert (tmp_path / 'res_img_1.txt').read_bytes() == b''
    assert read_result(str(tmp_path / 'res_img_1.txt')).shape == (0, 4, 2)


def test_what_was_written_is_read_again(tmp_path):
    read = read_result(write_result(str(tmp_path), 'img_1', BOXES))
    np.testing.assert_array_equal(read, BOXES)
    assert read.dtype == np.int32


def test_a_stem_may_hold_any_characters(tmp_path):
    path = write_result(str(tmp_path), '图 1.v2', BOXES)
    assert os.path.basename(path) == 'res_图 1.v2.txt'


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path):
    write_result(str(tmp_path), 'img_1', BOXES)
    write_result(str(tmp_path), 'img_1', BOXES[:1])
    assert os.listdir(str(tmp_path)) == ['res_img_1.txt']
    assert len(read_result(str(tmp_path / 'res_img_1.txt'))) == 1


@pytest.mark.parametrize('line', ['1,2,3', '1,2,3,4,5,6,7,8,9', '1,2,3,4,5,6,7,x', '', '1.5' * 8])
def test_a_line_that_is_no_box_is_named(tmp_path, line):
    path = tmp_path / 'res_img_1.txt'
    path.write_bytes(LINES + line.encode() + b'\r\n')
    with pytest.raises(ResultError, match=r'res_img_1\.txt, line 3'):
        read_result(str(path))


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(ResultError, match='res_img_1'):
        read_result(str(tmp_path / 'res_img_1.txt'))
    with pytest.raises(PSENetError, match='res_img_1'):
        write_result(str(tmp_path / 'missing'), 'img_1', BOXES)


def test_prepare_makes_the_folder(tmp_path):
    assert prepare_output(str(tmp_path / 'a' / 'b')) == 0
    assert (tmp_path / 'a' / 'b').is_dir()


def test_prepare_removes_results_of_an_earlier_run_and_nothing_else(tmp_path):
    directory = str(tmp_path)
    write_result(directory, 'img_1', BOXES)
    write_result(directory, 'photo', BOXES[:0])
    write_archive(directory)
    kept = {'res_notes.txt': 'thresholds 0.9', 'notes.txt': '', 'res_img_1.jpg': 'picture',
            'img_1.txt': LINES.decode()}
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
    (tmp_path / 'res_folder.txt').mkdir()
    assert prepare_output(directory) == 3
    assert sorted(os.listdir(directory)) == sorted(list(kept) + ['res_folder.txt'])


@pytest.mark.parametrize('make', [
    lambda path: path.write_text('no archive'),
    lambda path: zipfile.ZipFile(str(path), 'w').writestr('method.json', '{}'),
])
def test_a_foreign_archive_is_never_removed(tmp_path, make):
    make(tmp_path / 'results.zip')
    write_result(str(tmp_path), 'img_1', BOXES)
    for step in (prepare_output, write_archive):
        with pytest.raises(ResultError, match=r'results\.zip is not an archive of results'):
            step(str(tmp_path))
    assert sorted(os.listdir(str(tmp_path))) == ['res_img_1.txt', 'results.zip']


def test_an_output_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'output').write_text('')
    with pytest.raises(ResultError, match='--output_dir'):
        prepare_output(str(tmp_path / 'output'))


def test_the_archive_holds_what_scoring_takes(tmp_path):
    for stem in ('img_10', 'img_9', 'photo', 'img_x'):
        write_result(str(tmp_path), stem, BOXES)
    path = write_archive(str(tmp_path))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ['res_img_9.txt', 'res_img_10.txt']
        assert archive.read('res_img_9.txt') == LINES


def test_the_archive_is_made_anew(tmp_path):
    write_result(str(tmp_path), 'img_1', BOXES)
    write_archive(str(tmp_path))
    os.remove(write_result(str(tmp_path), 'img_1', BOXES))
    write_result(str(tmp_path), 'img_2', BOXES)
    with zipfile.ZipFile(write_archive(str(tmp_path))) as archive:
        assert archive.namelist() == ['res_img_2.txt']


def test_images_of_any_name_are_packed_where_none_has_a_number(tmp_path):
    for stem in ('holiday', 'menu'):
        write_result(str(tmp_path), stem, BOXES)
    (tmp_path / 'res_notes.txt').write_text('mine')
    with zipfile.ZipFile(write_archive(str(tmp_path))) as archive:
        assert archive.namelist() == ['res_holiday.txt', 'res_menu.txt']
    assert prepare_output(str(tmp_path)) == 3
    assert os.listdir(str(tmp_path)) == ['res_notes.txt']


def test_names_may_be_given(tmp_path):
    for stem in ('img_1', 'menu'):
        write_result(str(tmp_path), stem, BOXES)
    with zipfile.ZipFile(write_archive(str(tmp_path), r'res_(.+)\.txt')) as archive:
        assert sorted(archive.namelist()) == ['res_img_1.txt', 'res_menu.txt']


def test_files_dated_before_1980_are_packed(tmp_path):
    path = write_result(str(tmp_path), 'img_1', BOXES)
    os.utime(path, (0, 0))
    with zipfile.ZipFile(write_archive(str(tmp_path))) as archive:
        assert archive.read('res_img_1.txt') == LINES


def test_an_archive_of_nothing_is_refused(tmp_path):
    write_result(str(tmp_path), 'photo', BOXES)
    with pytest.raises(ResultError, match='res_img_'):
        write_archive(str(tmp_path), r'res_img_([0-9]+)\.txt')
    with pytest.raises(ResultError, match='cannot list'):
        write_archive(str(tmp_path / 'missing'))
