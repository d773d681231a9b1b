"""The main job through the real scripts: train, be killed, go on, be stopped, detect, score.

Everything runs in the locale C, on paths with spaces, Chinese characters and a link.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest

from tests.small_network import sitecustomize as small_network
from tools.demo_data import DatasetSpec, ensure_dataset
from training.checkpoints import open_checkpoint
from training.run_folder import find_checkpoints, step_of

LOG_LINE = re.compile(r'Step \d{6}, model loss \d+\.\d{4}, total loss \d+\.\d{4}, '
                      r'\d+\.\d\d seconds/step, \d+\.\d\d examples/second, '
                      r'data wait \d+\.\d%, ETA ')
PATIENCE_SECONDS = 240
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith(('LC_', 'LANG', 'PYTHONUTF8', 'PYTHONIOENCODING'))}
ENVIRONMENT.update(LC_ALL='C', PYTHONPATH=small_network.PYTHONPATH)


class Place(NamedTuple):
    """Where the runs of this module take place."""

    root: pathlib.Path
    data: pathlib.Path
    run: pathlib.Path

    def command(self, **flags):
        """train.py on the CPU, on a network input as small as it can be."""
        flags = {'gpu_list': '', 'training_data_path': self.data / 'train',
                 'checkpoint_path': self.run, 'input_size': 64, 'batch_size_per_gpu': 2,
                 'num_readers': 2, 'seed': 3, 'save_summary_steps': 5, 'keep_checkpoints': 2,
                 **flags}
        return [sys.executable, str(self.root / 'train.py')] + [
            '--%s=%s' % item for item in flags.items()]

    def train(self, **flags):
        """Runs to the end: (exit code, log)."""
        done = subprocess.run(self.command(**flags), stdout=subprocess.PIPE, check=False,
                              stderr=subprocess.STDOUT, encoding='utf-8', env=ENVIRONMENT,
                              timeout=PATIENCE_SECONDS)
        return done.returncode, done.stdout

    def train_until(self, pattern, signum, **flags):
        """Runs until a line of the log matches, signals: (exit code, seconds it took, log)."""
        process = subprocess.Popen(self.command(**flags), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, encoding='utf-8',
                                   env=ENVIRONMENT)
        log = []
        for line in process.stdout:
            log.append(line)
            if re.search(pattern, line):
                process.send_signal(signum)
                signalled = time.time()
                break
        else:
            pytest.fail(f"no line matched {pattern} in:\n{''.join(log)}")
        log += process.stdout.readlines()
        return process.wait(timeout=PATIENCE_SECONDS), time.time() - signalled, ''.join(log)

    def steps(self):
        """Steps of the checkpoints in the directory; each must open."""
        return sorted(open_checkpoint(prefix).global_step()
                      for prefix in find_checkpoints(str(self.run)))


def processes_of(directory):
    """Command lines of running processes that have to do with a directory."""
    found = []
    for entry in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            text = entry.read_bytes().replace(b'\0', b' ').decode(errors='replace')
        except OSError:
            continue
        if str(directory) in text:
            found.append(text)
    return found


@pytest.fixture(scope='module')
def place(project_root, tmp_path_factory):
    """A data set of the official form, and a directory for the run with somebody's notes in it."""
    directory = tmp_path_factory.mktemp('train')
    ensure_dataset(str(directory / '数 据'), DatasetSpec(train_images=8, test_images=2, size=96))
    data, run = directory / '链接', directory / '检查点 1'
    data.symlink_to(directory / '数 据', target_is_directory=True)
    run.mkdir()
    (run / 'notes.txt').write_text('mine')
    yield Place(project_root, data, run)
    for path in run.glob('model.ckpt-*'):  # 454 MB each, and pytest keeps directories
        path.unlink()


@pytest.fixture(scope='module')
def killed(place):
    """A run killed without warning after its first checkpoint."""
    exit_code, _, log = place.train_until('saved .*-2$', signal.SIGKILL, save_checkpoint_steps=2)
    return exit_code, log


@pytest.fixture(scope='module')
def restored(place, killed):
    """The same command again with --restore: it ends at its last step."""
    return place.train(restore=True, max_steps=11, save_checkpoint_steps=100)


def test_a_killed_run_leaves_its_checkpoint_and_no_process(place, killed):
    exit_code, log = killed
    assert exit_code == -signal.SIGKILL
    assert '8 usable images' in log
    assert 2 in place.steps()
    deadline = time.time() + 10
    while processes_of(place.data) and time.time() < deadline:
        time.sleep(0.2)
    assert processes_of(place.data) == []


def test_the_same_command_again_is_refused(place, killed):
    exit_code, log = place.train()
    assert exit_code == 1
    assert log.count('\n') == 1
    assert '--restore' in log
    assert '--overwrite' in log
    assert 2 in place.steps()


def test_restore_goes_on_to_the_end(place, restored):
    exit_code, log = restored
    assert exit_code == 0, log
    assert 'restored ' in log
    assert LOG_LINE.search(log), log
    assert place.steps()[-1] == 11
    assert len(place.steps()) <= 2
    assert (place.run / 'notes.txt').read_text() == 'mine'


def test_restored_run_continues_the_curves(place, restored):
    import tensorflow as tf
    steps = {}
    for path in sorted(place.run.glob('events*')):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    assert steps['total_loss'][-2:] == [5, 10]
    for tag in ('learning_rate', 'model_loss', 'text_loss', 'kernel_loss', 'input_image',
                'seg_map_gt', 'seg_map_pred', 'training_mask'):
        assert steps[tag] == steps['total_loss'], tag


@pytest.mark.parametrize(('signum', 'code'), [
    (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_saves_and_ends_all_processes(place, restored, signum, code):
    before = place.steps()[-1]
    next_line = f'Step {before // 10 * 10 + 10:06}'
    exit_code, seconds, log = place.train_until(next_line, signum, restore=True)
    assert exit_code == code, log
    assert seconds < 60, log
    saved = step_of(re.findall(r'saved (.+)', log)[-1])
    assert place.steps()[-1] == saved >= before + 1
    assert processes_of(place.data) == []


def test_detects_and_scores_with_what_was_trained(place, restored, tmp_path):
    environment = dict(ENVIRONMENT, output_dir=str(tmp_path), ckpt_dir=str(place.run),
                       test_data=str(place.data / 'test'), gt=str(place.data / 'gt.zip'),
                       PYTHON=sys.executable)
    done = subprocess.run(['bash', str(place.root / 'eval.sh')], env=environment, check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = done.stdout.strip().splitlines()[-1]
    assert sorted(json.loads(line)) == ['AP', 'hmean', 'precision', 'recall']
    assert sorted(path.name for path in tmp_path.glob('*.txt')) == ['res_img_1.txt',
                                                                    'res_img_2.txt']


def test_divergence_ends_the_run_and_names_the_files(place, restored):
    before = place.steps()
    exit_code, log = place.train(restore=True, learning_rate=1e38, save_checkpoint_steps=1000)
    assert exit_code == 1, log
    last = log.strip().splitlines()[-1]
    assert re.search(r'error: .* at step \d+ .*img_\d+\.jpg', last), log
    assert place.steps() == before


def test_overwrite_starts_anew_and_leaves_other_files_alone(place, restored):
    exit_code, log = place.train(overwrite=True, max_steps=1)
    assert exit_code == 0, log
    assert place.steps() == [1]
    assert (place.run / 'notes.txt').read_text() == 'mine'


def test_statistics_measured_at_the_end_are_saved(place, tmp_path):
    """Also where the last step is one at which checkpoints are saved."""
    found = []
    for count in (0, 2):
        run = tmp_path / str(count)
        exit_code, log = place.train(checkpoint_path=run, max_steps=4, save_checkpoint_steps=2,
                                     measured_batches=count)
        assert exit_code == 0, log
        checkpoint = open_checkpoint(str(run))
        assert checkpoint.global_step() == 4
        found.append({name: checkpoint.reader.get_tensor(name)
                      for name in checkpoint.reader.get_variable_to_shape_map()})
        assert f'saved {run}/model.ckpt-4' in log.splitlines()[-1]
    without, measured = found
    for name, value in without.items():
        if name.endswith('moving_mean'):
            assert np.abs(value - measured[name]).max() > 1e-6
        elif name.endswith('weights'):
            np.testing.assert_array_equal(value, measured[name])
