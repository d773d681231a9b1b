"""A run that was killed and goes on takes the same steps as one that was not."""

import json
import os
import re
import signal
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from tests.small_network import sitecustomize as small_network
from tools.demo_data import DatasetSpec, ensure_dataset
from training.checkpoints import open_checkpoint

PATIENCE_SECONDS = 400
STEPS = 12
SAVED, KILLED = 5, 7
TOLERANCE = 1e-5


class Ended(NamedTuple):
    """What a run of this module left."""

    exit_code: int
    log: str
    steps: list     # [number, total loss, names of images], in the order in which they were taken


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Data, and room for the runs."""
    directory = tmp_path_factory.mktemp('resume')
    ensure_dataset(str(directory / 'data'), DatasetSpec(train_images=8, test_images=1, size=96))
    yield directory
    for path in directory.glob('*/model.ckpt-*'):  # 454 MB each
        path.unlink()


@pytest.fixture(scope='module')
def train(directory, project_root):
    """train(name, kill_after, ...): 12 steps of train.py, or less, in a directory of that name."""
    def run(name, kill_after=0, **flags):
        flags = {'gpu_list': '', 'training_data_path': directory / 'data' / 'train',
                 'checkpoint_path': directory / name, 'input_size': 64, 'batch_size_per_gpu': 2,
                 'num_readers': 2, 'save_checkpoint_steps': SAVED, 'keep_checkpoints': 1,
                 'max_steps': STEPS, **flags}
        record = directory / (name + '.json')
        done = subprocess.run(
            [sys.executable, '-m', 'tests.recorded_train', str(record), str(kill_after),
             *('--%s=%s' % item for item in flags.items())], cwd=str(project_root), check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
            timeout=PATIENCE_SECONDS, start_new_session=True,
            env=dict(os.environ, PYTHONPATH=small_network.PYTHONPATH))
        lines = record.read_text().splitlines() if record.exists() else []
        record.write_text('')
        return Ended(done.returncode, done.stdout, [json.loads(line) for line in lines])
    return run


@pytest.fixture(scope='module')
def killed(train):
    """A run without a seed of its own, killed two steps after its checkpoint."""
    return train('resumed', KILLED)


@pytest.fixture(scope='module')
def resumed(train, killed):
    """The same, gone on with; more readers."""
    return train('resumed', restore=True, num_readers=3)


@pytest.fixture(scope='module')
def straight(train, killed):
    """A run that nothing befalls, with the seed that the killed one drew."""
    return train('straight', seed=drawn_seed(killed))


def drawn_seed(ended):
    """The seed that a run's log tells of."""
    return int(re.search(r'the seed of the training data is (\d+)', ended.log).group(1))


def test_the_seed_that_was_drawn_is_used_again(directory, killed, resumed):
    assert killed.exit_code == -signal.SIGKILL
    assert resumed.exit_code == 0, resumed.log
    seed = drawn_seed(killed)
    assert f'the seed of the training data is {seed}, as it was before' in resumed.log
    manifest = json.loads((directory / 'resumed' / 'training_files.json').read_text())
    assert manifest['checkpoints'] == [f'model.ckpt-{STEPS}']
    assert manifest['seed'] == seed


def test_the_same_images_in_every_batch(killed, resumed, straight):
    assert straight.exit_code == 0, straight.log
    assert [step for step, _, _ in straight.steps] == list(range(1, STEPS + 1))
    assert [step for step, _, _ in resumed.steps] == list(range(SAVED + 1, STEPS + 1))
    files = [names for _, _, names in straight.steps]
    assert [names for _, _, names in killed.steps] == files[:KILLED]
    assert [names for _, _, names in resumed.steps] == files[SAVED:]
    assert len({tuple(names) for names in files}) > STEPS // 2


def test_the_same_losses(killed, resumed, straight):
    expected = [loss for _, loss, _ in straight.steps]
    taken = [loss for _, loss, _ in killed.steps[:SAVED] + resumed.steps]
    np.testing.assert_allclose(taken, expected, rtol=TOLERANCE, atol=0)


def test_the_same_weights_averages_and_moments(directory, resumed, straight):
    one, other = (open_checkpoint(str(directory / name)) for name in ('resumed', 'straight'))
    assert one.shapes == other.shapes
    assert len(one.shapes) > 4 * 31
    for name in one.shapes:
        np.testing.assert_allclose(one.reader.get_tensor(name), other.reader.get_tensor(name),
                                   rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    assert os.listdir(str(directory / 'resumed')).count('training.lock') == 0
