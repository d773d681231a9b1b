"""convert_labels: every form to lines of polygons, which train.py reads as the same regions."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tools.convert_labels import convert, format_labels
from utils.data_provider.annotation import Annotation
from utils.data_provider.datasets import inspect_dataset
from utils.data_provider.formats import read_total_text

TRIANGLE = np.float32([[1, 2], [30.25, 2], [5, 20]])


def annotation(*rows):
    polygons, ignored, texts = zip(*rows)
    return Annotation(list(polygons), np.array(ignored), list(range(len(rows))), list(texts))


def test_lines_hold_points_and_the_text():
    given = annotation((TRIANGLE, False, 'a, b'), (TRIANGLE, True, 'word'),
                       (TRIANGLE[:2], False, 'two points'), (TRIANGLE, False, '1,000\n2'))
    assert format_labels(given) == ('1,2,30.25,2,5,20,a, b\n1,2,30.25,2,5,20,###\n'
                                    '1,2,30.25,2,5,20,"1,000 2"\n')


def test_what_is_written_is_read_again(tmp_path):
    texts = ['2462', '1,000,000', '12', 'o"clock', '', 'a,1']
    path = tmp_path / 'gt_a.txt'
    path.write_text(format_labels(annotation(*((TRIANGLE, False, text) for text in texts))))
    found = read_total_text(str(path))
    assert [polygon.tolist() for polygon in found.polygons] == [TRIANGLE.tolist()] * len(texts)
    assert [text.strip('"') for text in found.texts] == [text.strip('"') for text in texts]


def test_the_command_converts_a_folder(tmp_path, project_root):
    labels = tmp_path / 'set'
    labels.mkdir()
    (labels / 'y.json').write_text('{"shapes": 3}')
    shape = {'points': TRIANGLE.tolist(), 'label': 'word'}
    (labels / 'x 1.json').write_text(json.dumps({'shapes': [shape, {**shape, 'label': '###'}]}))
    command = [sys.executable, '-m', 'tools.convert_labels', f'--training_data_path={labels}']
    ended = subprocess.run([*command, '--output_dir=out'], cwd=str(tmp_path), capture_output=True,
                           text=True, check=False)
    # A file that cannot be read costs a warning, and the exit code says so.
    assert ended.returncode == 3, ended.stderr
    assert 'y.json: does not have the structure' in ended.stderr
    assert (tmp_path / 'out' / 'gt_x 1.txt').read_text() == (
        '1,2,30.25,2,5,20,word\n1,2,30.25,2,5,20,###\n')
    assert '2 regions of 1 images are in' in ended.stderr
    refused = subprocess.run([*command, f'--output_dir={labels}'], cwd=str(tmp_path),
                             capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert 'is the directory of the labels' in refused.stderr
    (tmp_path / 'empty').mkdir()
    empty = subprocess.run([*command[:-1], '--training_data_path=empty'], cwd=str(tmp_path),
                           capture_output=True, text=True, check=False)
    assert empty.returncode == 1
    assert 'has no labels' in empty.stderr
    assert 'Traceback' not in refused.stderr + empty.stderr


@pytest.mark.parametrize('place', ['total_text/mat', 'ctw1500/labels', 'ppocrlabel/one',
                                   'msra_td500/test', 'icdar2013'])
def test_real_labels_keep_their_regions(shared_dir, tmp_path, place):
    directory = shared_dir / 'data' / place
    if not directory.is_dir():
        pytest.skip(f'needs {directory}')
    files, regions, dropped, _ = convert(str(directory), 'auto', '', str(tmp_path))
    before = inspect_dataset(str(directory), labels_only=True).counts
    after = inspect_dataset(str(tmp_path), labels_only=True).counts
    assert files == after.usable_images == before.usable_images
    assert regions == after.boxes == before.boxes - dropped
    assert abs(after.usable_regions - before.usable_regions) <= dropped
