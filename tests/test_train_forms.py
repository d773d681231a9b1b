"""train.py on labels of the forms whose real images are not at hand: images are made for them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import savemat

from tests.small_network.sitecustomize import PYTHONPATH
from utils.data_provider import formats
from utils.image_io import write_image

STEPS = 5


def write_images(directory, label_dir, names):
    """Copies labels, and writes an image that holds all of each one's regions.

    Args:
        directory: where images and labels are to lie.
        label_dir: with the labels.
        names: function from the name of a label to that of its image.
    """
    for label in sorted(label_dir.glob('*.txt')):
        text = label.read_text(encoding='utf-8-sig')
        (directory / label.name).write_text(text, encoding='utf-8')
        numbers = [float(part) for line in text.splitlines() for part in line.split(',')
                   if part.strip().lstrip('-').isdigit()]
        write_noise(directory / names(label.stem), int(max(numbers)) + 20)


def write_noise(path, side):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(len(path.name)).randint(0, 256, (side // 8, side // 8, 3))
    write_image(str(path), np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8))


def make_icdar2013(directory, data):
    write_images(directory, data / 'icdar2013', lambda stem: stem.replace('gt_', '') + '.jpg')


def make_ctw1500(directory, data):
    write_images(directory, data / 'ctw1500' / 'labels', lambda stem: stem + '.jpg')


def make_mlt(directory, data):
    text = (data / 'mlt' / 'lines.txt').read_text(encoding='utf-8')
    for number, suffix in ((1, '.jpg'), (2, '.png')):
        (directory / f'gt_img_{number}.txt').write_text(text, encoding='utf-8')
        write_noise(directory / f'img_{number}{suffix}', 1600)


def make_art(directory, data):
    entries = {}
    for path in sorted((data / 'labelme').glob('img_*.json'))[:4]:
        read = formats.read_labelme(str(path))
        entries[path.stem] = [
            {'points': polygon.tolist(), 'transcription': 'a', 'illegibility': bool(ignored)}
            for polygon, ignored in zip(read.polygons, read.ignore_tags)]
        write_noise(directory / f'{path.stem}.jpg', 1300)
    (directory / 'train_labels.json').write_text(json.dumps(entries))


def make_synthtext(directory, data):
    paths = sorted((data / 'labelme').glob('img_*.json'))[:4]
    cells = {name: np.empty((1, len(paths)), object) for name in ('imnames', 'wordBB', 'txt')}
    for place, path in enumerate(paths):
        quads = [polygon for polygon in formats.read_labelme(str(path)).polygons
                 if len(polygon) == 4]
        name = f'{place}/{path.stem}.jpg'
        write_noise(directory / name, 1300)
        cells['imnames'][0, place] = np.array([name])
        cells['wordBB'][0, place] = np.stack(quads, axis=-1).transpose(1, 0, 2)
        cells['txt'][0, place] = np.array([' '.join(['word'] * len(quads))])
    savemat(str(directory / 'gt.mat'), cells)


@pytest.mark.parametrize('form, make, noted', [
    ('icdar2013', make_icdar2013, '30 usable images'),
    ('ctw1500', make_ctw1500, '--dataset=ctw1500'), ('mlt', make_mlt, '--dataset=mlt'),
    ('art', make_art, '--dataset=art'), ('synthtext', make_synthtext, '--dataset=synthtext')])
def test_five_steps(form, make, noted, shared_dir, project_root, tmp_path):
    directory = tmp_path / form
    directory.mkdir()
    if not (shared_dir / 'data' / 'labelme').is_dir():
        pytest.skip(f'needs the real annotation files at {shared_dir / "data"}')
    make(directory, shared_dir / 'data')
    done = subprocess.run(
        [sys.executable, str(project_root / 'train.py'), f'--max_steps={STEPS}', '--gpu_list=',
         '--input_size=128', '--batch_size_per_gpu=2', '--num_readers=1',
         f'--training_data_path={directory}', f'--checkpoint_path={tmp_path / "run"}'],
        capture_output=True, check=False, encoding='utf-8',
        env={**os.environ, 'PYTHONPATH': PYTHONPATH})
    assert done.returncode == 0, done.stderr
    assert noted in done.stderr
    assert f'model.ckpt-{STEPS}' in done.stderr
