"""What a process does of a run that it shares: one of two, whose partner is made of stop_votes."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.training.test_loop import Batches, fail, saved, tiny_graph
from training import loop
from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.ranks import PeerError, check_same_step, log_path
from training.signals import StopTraining
from utils.errors import PSENetError


class OneOfTwo(GpuDevice):
    """A device with a partner, whose stop_votes are of this test's making."""

    world_size = 2

    def __init__(self, rank):
        super().__init__('')
        self._rank = rank

    @property
    def rank(self):
        return self._rank

    def is_peer_failure(self, error):
        return 'gone' in error.message


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(rank, faults, partner) -> exit code; partner: batch number -> its stop_votes."""
    def train(rank=0, faults=None, partner=None, **options):
        def graph(config, device):
            built = tiny_graph(config, device)
            train.shared = tf.get_variable('shared', [], initializer=tf.zeros_initializer())
            number = tf.cast(built.inputs.images[0, 0, 0, 0], tf.int32)
            theirs = tf.constant([(partner or {}).get(k, (0.0, 0.0)) for k in range(10)])
            fetches = built.fetches._replace(stop_votes=(built.stop_votes + theirs[number]) / 2)
            return built._replace(fetches=fetches,
                                  share_all=tf.assign(train.shared, 100).op,
                                  share_statistics=tf.assign_add(train.shared, 1).op)

        def start_readers(_config, _device, first_step):
            train.batches = Batches(first_step, faults or {})
            return train.batches
        monkeypatch.setattr(loop, 'build_train_graph', graph)
        monkeypatch.setattr(loop, '_start_readers', start_readers)
        config = TrainConfig(training_data_path=str(tmp_path), checkpoint_path=train.directory,
                             **{'max_steps': 5, 'save_checkpoint_steps': 2, **options})
        with tf.Graph().as_default():
            return loop.train(config, OneOfTwo(rank), [train.spy])

    class Spy(loop.Hook):
        """Sees what every process has been given."""

        def end(self, session, step):
            train.told.append((step, session.run(train.shared)))

    train.spy, train.told = Spy(), []
    train.directory = str(tmp_path / 'run')
    return train


def kill(signum):
    """A batch during which this process gets a signal."""
    return lambda: os.kill(os.getpid(), signum) or 3.0


def test_rank_0_saves_and_shares_before_each_save(run):
    assert run() == 0
    assert sorted(saved(run.directory)) == [2, 4, 5]
    assert run.told == [(5, 100 + 3)]


@pytest.mark.parametrize(('rank', 'seen'), [(0, [2, 4, 5]), (1, [])])
def test_nobody_leaves_before_rank_0_has_saved(run, monkeypatch, rank, seen):
    waits = []
    monkeypatch.setattr(loop.LeaveTogetherHook, 'end',
                        lambda *_: waits.append(sorted(saved(run.directory))))
    assert run(rank=rank) == 0
    assert waits == [seen]


def test_the_other_writes_a_log_and_nothing_else(run):
    assert run(rank=1) == 0
    assert os.listdir(run.directory) == ['rank_1.log']
    assert run.told == []


def test_the_log_of_the_other_ends_with_its_error(run):
    with pytest.raises(PSENetError):
        run(rank=1, faults={0: fail(PSENetError('no image can be read'))})
    with open(log_path(run.directory, 1), encoding='utf-8') as file:
        assert file.read().splitlines()[-1].endswith('ERROR] no image can be read')


def test_a_log_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / 'run').write_text('a file')
    with pytest.raises(PSENetError, match=r'rank_1\.log cannot be written'):
        run(rank=1)


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_that_tells_it(run, signum):
    assert run(faults={3: kill(signum)}, save_checkpoint_steps=100) == 128 + signum
    assert sorted(saved(run.directory)) == [4]


def test_the_partners_signal_ends_the_run_as_well(run):
    assert run(partner={1: (1.0, 0.0)}, save_checkpoint_steps=100) == 143
    assert sorted(saved(run.directory)) == [2]


def test_a_second_signal_ends_the_run_without_saving(run):
    assert run(faults={3: fail(StopTraining(signal.SIGINT, at_once=True))},
               save_checkpoint_steps=100) == 130
    assert saved(run.directory) == {}


def test_what_ends_the_partner_ends_this_run_and_saves(run):
    with pytest.raises(PeerError, match='another process failed'):
        run(partner={2: (0.0, 1.0)}, save_checkpoint_steps=100)
    assert sorted(saved(run.directory)) == [3]


def test_a_process_without_data_takes_one_more_step_with_the_others(run):
    with pytest.raises(PSENetError, match='too few images'):
        run(faults={2: fail(PSENetError('too few images'))}, save_checkpoint_steps=100)
    assert saved(run.directory) == {3: 0 + 1 + 1}


def test_a_partner_that_is_gone_is_said_and_nothing_is_saved(run, monkeypatch):
    compute = tf.Session.run

    def without_partner(session, fetches, feed=None):
        if any(np.max(value) == 3.0 for value in (feed or {}).values() if np.ndim(value) == 4):
            raise tf.errors.UnknownError(None, None, 'the partner is gone\nand more')
        return compute(session, fetches, feed)
    monkeypatch.setattr(tf.Session, 'run', without_partner)
    with pytest.raises(PeerError, match=r'rank 0 of 2 .*\(the partner is gone\).*--restore'):
        run(save_checkpoint_steps=2)
    assert sorted(saved(run.directory)) == [2]


def test_other_errors_of_ops_are_not_the_partners(run, monkeypatch):
    monkeypatch.setattr(OneOfTwo, 'is_peer_failure', lambda *_: False)
    monkeypatch.setattr(OneOfTwo, 'prepare',
                        lambda _: fail(tf.errors.UnknownError(None, None, 'defect'))())
    with pytest.raises(tf.errors.UnknownError):
        run()


def test_processes_that_go_on_from_different_steps_are_refused():
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable('global_step', [], initializer=tf.constant_initializer(500.0),
                        collections=[tf.GraphKeys.GLOBAL_STEP, tf.GraphKeys.GLOBAL_VARIABLES])
        session.run(tf.global_variables_initializer())
        check_same_step(session, 500)
        with pytest.raises(PeerError, match=r'found step 0 in --checkpoint_path, but rank 0 '
                                            r'found step 500; give all processes the same d'):
            check_same_step(session, 0)
