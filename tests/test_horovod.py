"""Two real processes under horovodrun: their weights, their end, and the end of one of them."""

import importlib.util
import inspect
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

from tests.test_train import LOG_LINE, processes_of
from tests.training.conftest import write_checkpoint
from tests.training.horovod_stand_in import HorovodStandIn
from tools.demo_data import DatasetSpec, ensure_dataset
from training.checkpoints import open_checkpoint
from training.run_folder import find_checkpoints

# Two processes of TensorFlow, and the machine may have other work.
pytestmark = [pytest.mark.distributed, pytest.mark.timeout(1800)]

PATIENCE_SECONDS = 800
LEARNING_RATE = 1e-5
FIRST_LAYER = 'resnet_v1_50/conv1/weights'
PRETRAINED = 0.25


@pytest.fixture(scope='module')
def horovodrun(request):
    """The command that starts two processes."""
    if importlib.util.find_spec('horovod') is None:
        reason = 'Horovod is not installed for this Python (make setup-horovod)'
        # Who asks for these tests alone wants them to run.
        (pytest.fail if request.config.getoption('-m') == 'distributed' else pytest.skip)(reason)
    return [sys.executable, '-m', 'horovod.runner.launch', '-np', '2', '--gloo']


class Job(NamedTuple):
    """Where the runs of this module take place, and how they are started."""

    launcher: list
    root: pathlib.Path
    data: pathlib.Path
    run: pathlib.Path

    def start(self, **flags):
        """Starts two processes of train.py on the CPU, on an input as small as it can be."""
        flags = {'distributed': 'horovod', 'gpu_list': '', 'training_data_path': self.data,
                 'checkpoint_path': self.run, 'input_size': 64, 'batch_size_per_gpu': 2,
                 'num_readers': 2, 'save_checkpoint_steps': 1000, 'keep_checkpoints': 2,
                 'learning_rate': LEARNING_RATE, **flags}
        return subprocess.Popen(
            [*self.launcher, sys.executable, str(self.root / 'train.py'),
             *('--%s=%s' % item for item in flags.items())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def train(self, **flags):
        """Runs to the end: (exit code, log)."""
        process = self.start(**flags)
        log, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, log

    def train_until_step(self, act, **flags):
        """Runs until a step is logged, acts on the process: (exit code, seconds it took, log)."""
        process, log = self.start(restore=True, **flags), []
        for line in process.stdout:
            log.append(line)
            if LOG_LINE.search(line):
                act(process)
                acted = time.time()
                break
        else:
            pytest.fail(f"no step was logged in:\n{''.join(log)}")
        log += process.stdout.readlines()
        return process.wait(timeout=PATIENCE_SECONDS), time.time() - acted, ''.join(log)

    def trainer(self, rank):
        """Process id of the trainer of a rank: of those with its command line, the parent."""
        parents = {}
        for entry in pathlib.Path('/proc').glob('[0-9]*'):
            try:
                command = (entry / 'cmdline').read_bytes().split(b'\0')
                environment = (entry / 'environ').read_bytes().split(b'\0')
                parent = int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1])
            except OSError:
                continue
            if (b'HOROVOD_RANK=%d' % rank in environment
                    and command[1:2] == [os.fsencode(str(self.root / 'train.py'))]
                    and b'--checkpoint_path=%s' % os.fsencode(str(self.run)) in command):
                parents[int(entry.name)] = parent
        trainer, = (pid for pid, parent in parents.items() if parent in parents)
        return trainer

    def steps(self):
        """Steps of the checkpoints in the directory; each must open."""
        return sorted(open_checkpoint(prefix).global_step()
                      for prefix in find_checkpoints(str(self.run)))

    def log_of_rank_1(self):
        """What rank 1 has logged in all runs."""
        return (self.run / 'rank_1.log').read_text()


def scalars(directory, tag):
    """Values of a TensorBoard curve."""
    import tensorflow as tf
    return [value.simple_value for path in sorted(directory.glob('events*'))
            for event in tf.train.summary_iterator(str(path))
            for value in event.summary.value if value.tag == tag]


@pytest.fixture(scope='module')
def steps(horovodrun, project_root, tmp_path_factory):
    """What steps alone and steps together come to: {'alone', 'rank_0', 'rank_1'}."""
    directory = tmp_path_factory.mktemp('steps')
    program = [sys.executable, '-m', 'tests.horovod_steps', str(directory)]
    for command in (program, horovodrun + program):
        done = subprocess.run(command, cwd=str(project_root), stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode == 0, done.stdout
    yield {path.stem: np.load(str(path)) for path in directory.glob('*.npz')}
    for path in directory.glob('*.npz'):  # hundreds of MB, and pytest keeps directories
        path.unlink()


def digests(values, scenario):
    """{variable: digest} of all variables after a scenario."""
    return json.loads(str(values[scenario + '/digests']))


def test_on_the_same_batches_two_processes_have_the_weights_of_one(steps):
    alone = digests(steps['alone'], 'same')
    assert len(alone) > 800
    assert digests(steps['rank_0'], 'same') == digests(steps['rank_1'], 'same') == alone


def test_on_different_batches_the_mean_of_the_gradients_of_each_alone_is_applied(steps):
    names = [name.split('/', 1)[1] for name in steps['alone'].files if name.startswith('first/')]
    names.remove('digests')
    assert len(names) > 100
    for name in names:
        first, second = (steps['alone'][f'{one}/{name}'] for one in ('first', 'second'))
        together = steps['rank_0']['different/' + name]
        scale = max(np.abs(first).max(), np.abs(second).max())
        np.testing.assert_allclose(together, (first + second) / 2, rtol=0, atol=1e-5 * scale)
        assert np.abs(together - first).max() > 1e-3 * scale, name


def test_statistics_alone_are_each_processes_own_until_they_are_shared(steps):
    first, second = (digests(steps[rank], 'different') for rank in ('rank_0', 'rank_1'))
    differing = {name.rsplit('/', 1)[1] for name in first if first[name] != second[name]}
    assert differing == {'moving_mean', 'moving_variance'}
    assert digests(steps['rank_1'], 'different, shared') == first


def test_the_stand_in_of_the_other_tests_has_the_real_signatures(horovodrun):
    import horovod.tensorflow as hvd
    for name in ('allreduce', 'broadcast_variables', 'DistributedOptimizer'):
        real = list(inspect.signature(getattr(hvd, name)).parameters)
        assert list(inspect.signature(getattr(HorovodStandIn, name)).parameters)[1:] == real


# A process with a reader, whose shell is replaced by it, and horovodrun's way to end it.
TRAINER = """
import signal, subprocess, sys
from training.devices.launcher import step_below_launcher
step_below_launcher()
def end(signum, _):
    print('signal %d' % signum, flush=True)
    sys.exit(128 + signum)
signal.signal(signal.SIGTERM, end)
reader = subprocess.Popen(['cat'], stdin=subprocess.PIPE)
print('ready', flush=True)
while True:
    signal.pause()
"""
ENDER = """
import io, sys, threading
from horovod.runner.common.util import safe_shell_exec
class Output(io.StringIO):
    def write(self, text):
        if 'ready' in text:
            event.set()
        sys.stdout.write(text)
if __name__ == '__main__':
    event = threading.Event()
    safe_shell_exec.execute('exec %s trainer.py' % sys.executable, stdout=Output(), events=[event])
"""


def test_a_trainer_in_the_place_of_its_shell_gets_the_signal(horovodrun, project_root, tmp_path):
    (tmp_path / 'trainer.py').write_text(TRAINER)
    (tmp_path / 'ender.py').write_text(ENDER)
    done = subprocess.run([sys.executable, 'ender.py'], cwd=str(tmp_path), check=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(project_root)),
                          stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS)
    assert done.stdout.split() == ['ready', 'signal', '15']


@pytest.fixture(scope='module')
def job(horovodrun, project_root, tmp_path_factory):
    """A data set of the official form, and a directory for the runs."""
    directory = tmp_path_factory.mktemp('horovod')
    ensure_dataset(str(directory / 'data'), DatasetSpec(train_images=8, test_images=2, size=96))
    yield Job(horovodrun, project_root, directory / 'data' / 'train', directory / 'run')
    for path in (directory / 'run').glob('model.ckpt-*'):  # 454 MB each
        path.unlink()


@pytest.fixture(scope='module')
def finished(job, tmp_path_factory):
    """A run of three steps from pretrained weights, the second of them saved."""
    pretrained = write_checkpoint(tmp_path_factory.mktemp('pretrained'), {
        FIRST_LAYER: np.full([7, 7, 3, 64], PRETRAINED, np.float32)}, 'resnet_v1_50.ckpt')
    return job.train(max_steps=3, save_checkpoint_steps=2, save_summary_steps=1,
                     scale_learning_rate=True, pretrained_model_path=pretrained)


@pytest.fixture(scope='module')
def signalled(job, finished):
    """The run goes on, and one process, not that of rank 0, is asked to stop."""
    return job.train_until_step(lambda _: os.kill(job.trainer(1), signal.SIGTERM))


@pytest.fixture(scope='module')
def bereaved(job, signalled):
    """The run goes on, and one process is killed without warning."""
    before = job.steps()
    outcome = job.train_until_step(lambda _: os.kill(job.trainer(1), signal.SIGKILL))
    return (before, *outcome)


def test_a_run_saves_once_and_logs_by_rank(job, finished):
    exit_code, log = finished
    assert exit_code == 0, log
    assert job.steps() == [2, 3]
    assert re.findall(r'\[(\d)\].* saved ', log) == ['0', '0']
    assert '8 usable images' in job.log_of_rank_1()
    assert processes_of(job.data) == []


def test_training_starts_from_pretrained_weights(job, finished):
    weights = open_checkpoint(str(job.run / 'model.ckpt-2')).reader.get_tensor(FIRST_LAYER)
    # Adam moves a weight by no more than the rate in one of its first steps.
    np.testing.assert_allclose(weights, PRETRAINED, rtol=0, atol=4 * 2 * LEARNING_RATE)
    assert np.abs(weights - PRETRAINED).max() > 0


def test_the_learning_rate_is_scaled_when_asked(job, finished):
    np.testing.assert_allclose(scalars(job.run, 'learning_rate')[:3], 2 * LEARNING_RATE, rtol=1e-6)


def test_a_signal_to_one_process_ends_all_and_saves(job, signalled):
    exit_code, seconds, log = signalled
    assert exit_code != 0
    assert seconds < 60, log
    assert log.count('exit with status code 143') == 2, log
    assert job.steps()[-1] > 10, log
    assert 'restored ' in log
    assert processes_of(job.data) == []


def test_a_killed_process_ends_the_job_with_an_error(job, bereaved):
    before, exit_code, seconds, log = bereaved
    assert exit_code != 0
    assert seconds < 60, log
    assert re.search(r'\[0\].*error: rank 0 of 2 processes lost another one .*--restore', log), log
    assert 'Traceback' not in log.split('Process 1 exit')[0]
    assert job.steps() == before
    assert processes_of(job.data) == []


def test_a_signal_to_horovodrun_reaches_every_process(job, bereaved):
    _, seconds, log = job.train_until_step(lambda process: process.send_signal(signal.SIGINT))
    assert seconds < 60, log
    # horovodrun leaves five seconds for the step and the checkpoint, which may not be enough here.
    assert re.search(r'\[0\].*SIGTERM: finishing the step', log), log
    assert 'SIGTERM: finishing the step' in job.log_of_rank_1().splitlines()[-1] or \
        'stopped by SIGTERM' in job.log_of_rank_1().splitlines()[-1]
    assert job.steps()[-1] > 10
    assert processes_of(job.data) == []
