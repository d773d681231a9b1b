"""Steps through NPUEstimator over the fake adapter, on a network of one weight."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.training.npu_on_path import fake_npu_bridge
from tests.training.test_loop import Batches, fail, saved
from training import loop
from training.checkpoints import open_checkpoint
from training.config import TrainConfig
from training.devices.npu import estimator
from training.devices.npu.options import NpuConfig
from training.devices.npu.session import NpuDevice
from training.graph import Fetches, Inputs, Scalars, TrainGraph
from training.hooks import DivergenceError, Hook
from training.run_folder import find_checkpoints
from training.signals import StopTraining
from utils.errors import PSENetError

SPECS = Inputs(*(tf.TensorSpec([1, 1, 1, depth], tf.float32) for depth in (3, 6, 1)))
OVERFLOW = -1.0


def tiny_graph(_config, _device, inputs):
    """weight += mean(images), loss = weight; a batch of OVERFLOW is left out."""
    step = tf.train.get_global_step()
    weight = tf.get_variable('weight', [], initializer=tf.zeros_initializer())
    average = tf.train.ExponentialMovingAverage(0.5)
    value = tf.reduce_mean(inputs.images)

    def apply():
        with tf.control_dependencies([tf.assign_add(weight, value), tf.assign_add(step, 1)]):
            return tf.group(average.apply([weight]))
    update = tf.cond(tf.equal(value, OVERFLOW), tf.no_op, apply).op
    with tf.control_dependencies([update]):
        scalars = Scalars(*[weight.read_value() for _ in Scalars._fields])
        fetches = Fetches(update, step.read_value(), scalars, inputs.seg_maps[0], tf.zeros([2]))
    return TrainGraph(inputs, tf.zeros([2]), fetches, average, None, None)


class Watcher(Hook):
    """Keeps what hooks are told, and does something after a step."""

    def __init__(self):
        self.told = []
        self.act = {}

    def after_step(self, session, result):
        self.told.append((result.step, result.taken, result.skipped, result.batch.paths))
        self.act.get(result.step, lambda: None)()

    def after_skip(self, session, result):
        self.after_step(session, result)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Trains the tiny network: run(faults, per_loop, **config) -> exit code."""
    monkeypatch.setattr(estimator, 'build_train_graph', tiny_graph)
    monkeypatch.setattr(estimator, 'input_specs', lambda *_: SPECS)

    def train(faults=None, per_loop=1, act=None, **options):
        def start_readers(_config, _device, first_step):
            train.batches = Batches(first_step, faults or {})
            return train.batches
        monkeypatch.setattr(loop, '_start_readers', start_readers)
        config = TrainConfig(training_data_path=str(tmp_path), checkpoint_path=train.directory,
                             **{'max_steps': 6, 'save_checkpoint_steps': 100, **options})
        npu = NpuConfig(api='estimator', options={'iterations_per_loop': per_loop})
        train.watcher = Watcher()
        train.watcher.act.update(act or {})
        return loop.train(config, NpuDevice(npu), [train.watcher], estimator.in_estimator(npu))

    train.directory = str(tmp_path / 'run')
    with fake_npu_bridge(JOB_ID='1'):
        yield train


def test_each_step_has_its_batch_and_the_last_is_saved(run):
    assert run() == 0
    assert run.watcher.told == [(k + 1, 1, 0, [f'img_{k}.jpg']) for k in range(6)]
    assert saved(run.directory) == {6: 0 + 1 + 2 + 3 + 4 + 5}
    assert run.batches.closed


def test_the_folder_holds_what_a_session_would_leave(run):
    run()
    names = sorted(os.listdir(run.directory))
    assert [name for name in names if not name.startswith('events')] == [
        'checkpoint', 'model.ckpt-6.data-00000-of-00001', 'model.ckpt-6.index',
        'training_files.json']
    assert all(name.endswith('.psenet') for name in names if name.startswith('events'))
    checkpoint = open_checkpoint(find_checkpoints(run.directory)[0])
    assert checkpoint.reader.get_tensor('global_step').dtype == np.float32
    assert sorted(checkpoint.shapes) == ['global_step', 'weight',
                                         'weight/ExponentialMovingAverage']


@pytest.mark.parametrize('release', ['r1.1.1', 'r1.5.0', 'master'])
def test_every_release_trains_in_loops(run, monkeypatch, release):
    monkeypatch.setenv('FAKE_NPU_RELEASE', release)
    assert run(per_loop=2, save_checkpoint_steps=4) == 0
    assert run.watcher.told == [(k, 2, 0, [f'img_{k - 1}.jpg']) for k in (2, 4, 6)]
    assert saved(run.directory) == {4: 6, 6: 15}


def test_steps_left_out_in_a_loop_are_counted_and_the_end_is_not_missed(run):
    left_out = {1: lambda: OVERFLOW, 4: lambda: OVERFLOW, 5: lambda: OVERFLOW}
    assert run(left_out, per_loop=2, max_steps=4, save_checkpoint_steps=2) == 0
    assert [told[:3] for told in run.watcher.told] == [(1, 1, 1), (3, 2, 0), (3, 0, 2), (5, 2, 0)]
    assert saved(run.directory) == {3: 0 + 2 + 3, 5: 0 + 2 + 3 + 6 + 7}


def test_restore_goes_on_with_the_next_step_and_the_next_batch(run):
    run(max_steps=2)
    assert run(restore=True) == 0
    assert run.watcher.told[0] == (3, 1, 0, ['img_2.jpg'])
    assert saved(run.directory)[6] == 15


def test_overwrite_removes_the_earlier_run(run):
    run()
    assert run(overwrite=True, max_steps=2) == 0
    assert saved(run.directory) == {2: 1}


def test_a_folder_with_a_checkpoint_is_refused(run):
    run()
    with pytest.raises(PSENetError, match=r'--restore.*--overwrite'):
        run()


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_gives_its_exit_code(run, signum):
    assert run(act={3: lambda: os.kill(os.getpid(), signum)}) == 128 + signum
    assert saved(run.directory) == {3: 3}
    assert run.batches.closed


def test_a_second_signal_ends_the_run_without_saving(run):
    stop = StopTraining(signal.SIGINT, at_once=True)
    assert run(act={3: fail(stop)}) == 130
    assert saved(run.directory) == {}


@pytest.mark.parametrize('per_loop', [1, 2])
def test_a_data_error_saves_what_was_trained(run, per_loop):
    with pytest.raises(PSENetError, match='too few images'):
        run({3: fail(PSENetError('too few images'))}, per_loop)
    assert saved(run.directory) == {3: 0 + 1 + 2}


def test_an_error_before_the_first_step_saves_nothing(run):
    with pytest.raises(PSENetError, match='no'):
        run({0: fail(PSENetError('no'))})
    assert saved(run.directory) == {}


def test_nan_keeps_the_last_good_checkpoint(run):
    with pytest.raises(DivergenceError, match=r'step 4 .*nan.*img_3\.jpg'):
        run({3: lambda: float('nan')}, save_checkpoint_steps=2)
    assert saved(run.directory) == {2: 1}


def test_a_lost_session_does_not_begin_anew(run):
    with pytest.raises(PSENetError, match=r'lost after step 2; .* --restore'):
        run(act={2: fail(tf.errors.AbortedError(None, None, 'gone'))})


def test_too_little_memory_is_said_in_a_sentence(run):
    with pytest.raises(PSENetError, match='lower --batch_size_per_gpu'):
        run(act={2: fail(tf.errors.ResourceExhaustedError(None, None, 'OOM'))})
