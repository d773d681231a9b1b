"""tools/sweep.py as a person runs it, and eval.sh, which follows what it wrote."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from inference.detector import Detector
from inference.folder import detect_folder, images_by_stem
from inference.thresholds import SUFFIX
from tests.reference_rule import write_rule_checkpoint
from utils.image_io import write_image

# Finds boxes with random weights.
TARGET = {'seg_map_thresh': 0.35, 'min_area_thresh': 2}
VALUES = ('--seg_map_threshs=0.3,0.35,0.4', '--min_area_threshs=2,8', '--min_box_sides=0,25')


class Place:
    """A checkpoint of random weights, images, and ground truth that it finds at TARGET."""

    def __init__(self, root, folder):
        self.root = root
        self.images, self.gt = folder / 'images', folder / 'gt.zip'
        self.prefix = write_rule_checkpoint(str(folder / 'checkpoint'))
        self.folder = folder
        self.images.mkdir()
        for number in (1, 2, 3):
            pixels = np.random.RandomState(number).randint(0, 256, (64 + 32 * number, 128, 3))
            write_image(str(self.images / f'img_{number}.png'), pixels.astype(np.uint8))
        self._write_ground_truth(folder / 'truth')

    def _write_ground_truth(self, output):
        output.mkdir()
        with Detector(self.prefix, **TARGET) as detector:
            detect_folder(detector, images_by_stem(str(self.images)), str(output), False)
        with zipfile.ZipFile(str(self.gt), 'w') as archive:
            for path in sorted(output.glob('res_*.txt')):
                lines = path.read_text().replace('\r', '').splitlines()
                archive.writestr(path.name.replace('res_', 'gt_'),
                                 ''.join(f'{line},word\r\n' for line in lines))

    def sweep(self, *arguments):
        return self._run([sys.executable, str(self.root / 'tools' / 'sweep.py'), '--gpu_list=',
                          f'--test_data_path={self.images}', f'--gt={self.gt}',
                          f'--checkpoint_path={os.path.dirname(self.prefix)}', *VALUES,
                          f'--output_dir={self.folder / "sweep"}', *arguments])

    def evaluate(self, *arguments):
        return self._run(['bash', str(self.root / 'eval.sh'), '--no_write_images', *arguments],
                         env=dict(os.environ, PYTHON=sys.executable, test_data=str(self.images),
                                  gt=str(self.gt), ckpt_dir=os.path.dirname(self.prefix),
                                  output_dir=str(self.folder / 'output')))

    @staticmethod
    def _run(command, **kwargs):
        return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope='module')
def place(project_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sweep')
    yield Place(project_root, folder)
    shutil.rmtree(str(folder))  # the checkpoint takes 110 MB


@pytest.fixture(scope='module')
def swept(place):
    """What a sweep with --write printed; it ended well."""
    result = place.sweep('--write')
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope='module')
def rows(place, swept):
    with open(str(place.folder / 'sweep' / 'sweep.csv')) as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_table_holds_every_combination(rows):
    assert len(rows) == 3 * 2 * 2
    assert list(rows[0]) == ['seg_map_thresh', 'min_area_thresh', 'min_box_side', 'precision',
                             'recall', 'hmean']


def test_the_best_is_said_in_flags_and_kept_beside_the_checkpoint(place, rows, swept):
    best = max(rows, key=lambda row: row['hmean'])
    assert best['hmean'] == 1
    flags = '--seg_map_thresh=0.35 --min_area_thresh=2 --min_box_side=0'
    assert f'best: Hmean 1.0000 (precision 1.0000, recall 1.0000) with {flags}' in swept
    with open(place.prefix + SUFFIX) as file:
        assert json.load(file).items() >= dict(best, checkpoint='model.ckpt-1').items()


def test_eval_sh_follows_it_but_for_flags_and_scores_as_their_row(place, rows, swept):
    result = place.evaluate('--min_area_thresh=8')
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f'{SUFFIX} says --seg_map_thresh=0.35 --min_box_side=0\n') == 1
    row = next(row for row in rows if list(row.values())[:3] == [0.35, 8, 0])
    assert 0 < row['hmean'] < 1
    score = json.loads(result.stdout.splitlines()[-1])
    assert {name: score[name] for name in ('precision', 'recall', 'hmean')} == {
        name: row[name] for name in ('precision', 'recall', 'hmean')}


def test_the_picture_can_be_looked_at(place, swept):
    picture = cv2.imread(str(place.folder / 'sweep' / 'sweep.png'))
    assert picture.shape[0] > 300
    assert picture.std() > 10


@pytest.mark.parametrize('argument, word', [
    ('--seg_map_threshs=0.5,high', '--seg_map_threshs=0.5,high'),
    ('--seg_map_threshs=0.5,1', '--seg_map_thresh=1.0 must be'), ('--min_box_sides=', 'numbers'),
    ('--workers=-1', '--workers'), ('--gt=none.zip', 'none.zip'),
    ('--checkpoint_path=none', 'none')])
def test_a_mistake_is_one_sentence(place, argument, word):
    result = place.sweep(argument)
    assert result.returncode == 1
    assert word in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
