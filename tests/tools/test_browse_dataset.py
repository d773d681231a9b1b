"""browse_dataset: its samples are those of training, and the sheet shows them."""

import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tools.browse_dataset import draw_row, make_samples
from tools.demo_data import DatasetSpec, ensure_dataset
from utils.data_provider.batching import BatchOptions
from utils.data_provider.data_provider import get_batch
from utils.data_provider.datasets import load_mixture
from utils.errors import PSENetError
from utils.image_io import read_image

OPTIONS = BatchOptions(input_size=96, batch_size=3, seed=5, min_crop_side_ratio=0.1)


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """A training directory of synthetic pictures."""
    made = tmp_path_factory.mktemp('browse') / '数据'
    ensure_dataset(str(made), DatasetSpec(train_images=12, test_images=1, size=128, seed=5))
    return made / 'train'


@pytest.fixture(scope='module')
def mixture(directory):
    """The usable images of the directory."""
    return load_mixture(str(directory))


def test_samples_are_those_that_training_gets(directory, mixture):
    shown = list(itertools.islice(make_samples(mixture, OPTIONS, first_batch=2), 6))
    with get_batch(str(directory), 1, OPTIONS.input_size, OPTIONS.batch_size, seed=OPTIONS.seed,
                   first_batch=2) as batches:
        for number, part in ((2, shown[:3]), (3, shown[3:])):
            images, paths, seg_maps, masks = next(batches)
            np.testing.assert_array_equal([sample.image for sample in part], images)
            np.testing.assert_array_equal([sample.seg_maps for sample in part], seg_maps)
            np.testing.assert_array_equal([sample.training_mask for sample in part], masks[..., 0])
            for place, (sample, path) in enumerate(zip(part, paths)):
                name = path.rsplit('/', 1)[1]
                assert sample.caption.startswith(f'batch {number}, sample {place}: {name} (')


def test_a_row_shows_crop_kernels_and_mask(mixture):
    made = make_samples(mixture, OPTIONS, 0)
    sample = next(sample for sample in made if sample.seg_maps[..., 0].sum() > 50)
    crop, *kernels, mask = draw_row(sample)
    assert len(kernels) == 6
    assert {panel.shape for panel in (crop, *kernels, mask)} == {crop.shape}
    # What is tinted is green, and the rest is grey.
    green = [int((np.ptp(kernel.astype(int), axis=-1) > 0).sum()) for kernel in kernels]
    assert 0 < green[0] < green[-1]
    share = (np.ptp(mask.astype(int), axis=-1) > 0).mean()
    assert share == pytest.approx(sample.training_mask.mean(), abs=0.01)


def _run(project_root, cwd, *arguments):
    command = [sys.executable, '-m', 'tools.browse_dataset', *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=str(cwd), check=False)


def test_command(project_root, directory, tmp_path):
    ended = _run(project_root, tmp_path, f'--training_data_path={directory}', '--seed=5',
                 '--count=5', '--batch_size_per_gpu=3', '--input_size=96', '--out=片.png')
    assert ended.returncode == 0, ended.stderr
    assert '5 training samples are in' in ended.stderr
    height, width = read_image(str(tmp_path / '片.png')).shape[:2]
    assert width % 8 == 0
    # A heading, then rows of a caption and panels that are as high as wide.
    caption = height - 5 * (width // 8)
    assert caption % 6 == 0


@pytest.mark.parametrize('arguments, message', [
    (['--training_data_path=absent'], 'absent cannot be listed'),
    (['--training_data_path=.'], 'contains no jpg, jpeg or png image'),
    (['--input_size=100'], 'multiple of 32'), (['--count=0'], 'count')])
def test_command_says_what_is_wrong_in_a_sentence(project_root, tmp_path, arguments, message):
    ended = _run(project_root, tmp_path, *arguments)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_an_image_that_went_away_ends_it(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'a.txt').write_text('1,1,6,1,6,6,1,6,a')
    mixture = load_mixture(str(tmp_path))
    (tmp_path / 'a.png').unlink()
    with pytest.raises(PSENetError, match='gave no sample for batch 0'):
        next(make_samples(mixture, OPTIONS, 0))
