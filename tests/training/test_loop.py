"""The loop's order of events, on a network of one weight and batches from a list."""

import errno
import fcntl
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from training import loop
from training.checkpoints import open_checkpoint
from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.graph import Fetches, Inputs, Scalars, TrainGraph
from training.hooks import DivergenceError
from training.run_folder import LOCK_FILE, find_checkpoints
from training.signals import StopTraining
from utils.errors import PSENetError


def tiny_graph(_config, _device):
    """A graph of training's form: weight += mean(images), loss = weight."""
    inputs = Inputs(*(tf.placeholder(tf.float32, [1, 1, 1, depth]) for depth in (3, 6, 1)))
    stop_votes = tf.placeholder(tf.float32, [2])
    agreed = tf.identity(stop_votes)
    step = tf.get_variable('global_step', [], tf.float32, trainable=False,
                           initializer=tf.zeros_initializer(),
                           collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.GLOBAL_STEP])
    weight = tf.get_variable('weight', [], initializer=tf.zeros_initializer())
    with tf.control_dependencies([tf.assign_add(weight, tf.reduce_mean(inputs.images)),
                                  tf.assign_add(step, 1.0)]):
        average = tf.train.ExponentialMovingAverage(0.5, num_updates=step.read_value())
        update = average.apply([weight])
    with tf.control_dependencies([update]):
        value = weight.read_value()
        scalars = Scalars(*[tf.identity(value) for _ in Scalars._fields])
        fetches = Fetches(update, step.read_value(), scalars, inputs.seg_maps[0], agreed)
        return TrainGraph(inputs, stop_votes, fetches, average, None, None)


class Batches:
    """Stands for the readers: batch k holds k, unless ``faults`` has something to do there."""

    def __init__(self, first, faults):
        self.next_batch = first
        self.faults = faults
        self.counts = 'counts of the data'
        self.seed = 7
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.closed = True

    def __iter__(self):
        return self

    def __next__(self):
        number = self.next_batch
        self.next_batch += 1
        value = self.faults[number]() if number in self.faults else float(number)
        return (np.full((1, 1, 1, 3), value, np.float32), [f'img_{number}.jpg'],
                np.zeros((1, 1, 1, 6), np.float32), np.ones((1, 1, 1, 1), np.float32))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Trains the tiny network: run(faults, **config) -> exit code; run.batches are the readers."""
    monkeypatch.setattr(loop, 'build_train_graph', tiny_graph)

    def train(faults=None, **options):
        def start_readers(config, _device, first_step):
            train.batches = Batches(first_step, faults or {})
            train.config = config
            return train.batches
        monkeypatch.setattr(loop, '_start_readers', start_readers)
        config = TrainConfig(training_data_path=str(tmp_path), checkpoint_path=train.directory,
                             **{'max_steps': 5, 'save_checkpoint_steps': 100, **options})
        with tf.Graph().as_default():
            return loop.train(config, GpuDevice(''))

    train.directory = str(tmp_path / 'run')
    return train


def saved(directory):
    """{step: weight} of the checkpoints in a directory."""
    checkpoints = [open_checkpoint(prefix) for prefix in find_checkpoints(directory)]
    return {one.global_step(): float(one.reader.get_tensor('weight')) for one in checkpoints}


def fail(error):
    """Something that raises ``error`` when the batch is asked for."""
    def raise_it():
        raise error
    return raise_it


def test_ends_at_max_steps_and_saves_the_last_step(run):
    assert run() == 0
    assert saved(run.directory) == {5: 0 + 1 + 2 + 3 + 4}
    assert run.batches.closed


def test_saves_at_the_interval_and_keeps_the_newest(run):
    run(save_checkpoint_steps=2, keep_checkpoints=2)
    assert sorted(saved(run.directory)) == [4, 5]


def test_restore_goes_on_with_the_next_step_and_the_next_batch(run):
    run(max_steps=3)
    assert run(restore=True) == 0
    assert saved(run.directory)[5] == 10
    assert run.batches.next_batch == 5


def test_restore_goes_on_with_the_seed_that_was_drawn(run):
    run(max_steps=3)
    assert run.config.seed is None
    run(restore=True)
    assert run.config.seed == run.batches.seed


def test_the_folder_is_locked_while_it_trains(run):
    held = []

    def look():
        held.append(LOCK_FILE in os.listdir(run.directory))
        return 0.0
    run({1: look})
    assert held == [True]
    assert LOCK_FILE not in os.listdir(run.directory)


@pytest.mark.parametrize('option', ['restore', 'overwrite'])
def test_a_folder_in_use_is_refused_and_stays_as_it_is(run, monkeypatch, option):
    run(max_steps=3)

    def held(*_):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    monkeypatch.setattr(fcntl, 'lockf', held)
    with pytest.raises(PSENetError, match=r'checkpoint_path=.*run is in use by another'):
        run(**{option: True})
    assert sorted(saved(run.directory)) == [3]


def test_restore_at_the_end_has_nothing_to_do(run):
    run()
    del run.batches
    assert run(restore=True) == 0
    assert not hasattr(run, 'batches')


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_gives_its_exit_code(run, signum):
    assert run({3: lambda: os.kill(os.getpid(), signum)}) == 128 + signum
    assert saved(run.directory) == {3: 3}
    assert run.batches.closed


def test_a_signal_during_the_last_save_waits_for_it(run, monkeypatch):
    save = loop.CheckpointWriter.save

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return save(*arguments)
    monkeypatch.setattr(loop.CheckpointWriter, 'save', interrupted)
    assert run() == 130
    assert saved(run.directory) == {5: 10}


def test_a_second_signal_ends_the_run_without_saving(run):
    assert run({3: fail(StopTraining(signal.SIGINT, at_once=True))}) == 130
    assert saved(run.directory) == {}


def test_too_little_memory_is_said_in_a_sentence(run, monkeypatch):
    compute = tf.Session.run

    def exhausted(session, fetches, feed=None):
        if feed:
            raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating')
        return compute(session, fetches)
    monkeypatch.setattr(tf.Session, 'run', exhausted)
    with pytest.raises(PSENetError, match='lower --batch_size_per_gpu'):
        run()


def test_a_data_error_saves_what_was_trained(run):
    with pytest.raises(PSENetError, match='too few images'):
        run({2: fail(PSENetError('too few images'))})
    assert saved(run.directory) == {2: 1}


def test_an_error_before_the_first_step_saves_nothing(run):
    with pytest.raises(PSENetError):
        run({0: fail(PSENetError('no'))})
    assert saved(run.directory) == {}


def test_nan_keeps_the_last_good_checkpoint(run):
    with pytest.raises(DivergenceError, match=r'step 4 .*nan.*img_3\.jpg'):
        run({3: lambda: float('nan')}, save_checkpoint_steps=2)
    assert saved(run.directory) == {2: 1}


def test_a_folder_with_a_checkpoint_is_refused(run):
    run()
    with pytest.raises(PSENetError, match=r'--restore.*--overwrite'):
        run()
    assert sorted(saved(run.directory)) == [5]


def test_overwrite_removes_the_earlier_run_and_nothing_else(run):
    run(max_steps=4)
    notes = os.path.join(run.directory, 'notes.txt')
    with open(notes, 'w', encoding='utf-8') as file:
        file.write('mine')
    run(overwrite=True, max_steps=2)
    assert sorted(saved(run.directory)) == [2]
    assert os.path.exists(notes)


def test_overwrite_that_cannot_start_loses_nothing(run, monkeypatch):
    run()
    monkeypatch.setattr(loop, 'build_train_graph', lambda *_: fail(PSENetError('no'))())
    with pytest.raises(PSENetError):
        run(overwrite=True)
    assert sorted(saved(run.directory)) == [5]
