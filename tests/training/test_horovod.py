"""What HorovodDevice answers, over a stand-in for Horovod and a partner that is made up."""

import sys
from unittest import mock

import pytest
import tensorflow as tf

from tests.training.horovod_stand_in import HorovodStandIn, stand_in
from training.devices.horovod import HorovodDevice
from training.devices.launcher import RankInfo
from utils.errors import PSENetError


def prepared(place, partner=0.0):
    """A connected device; the partner holds this value of everything."""
    with stand_in(HorovodStandIn(place.rank, place.world_size, partner)):
        device = HorovodDevice('', place)
        device.prepare()
    return device


@pytest.fixture
def first():
    """The first of two processes, whose partner holds 4 of everything."""
    return prepared(RankInfo(0, 2), partner=4.0)


def test_without_horovod_a_sentence_says_how_to_get_it():
    with mock.patch.dict(sys.modules, {'horovod': None}), \
            pytest.raises(PSENetError, match=r'not installed.*`make setup-horovod`'):
        HorovodDevice('', RankInfo())


def test_a_horovod_that_cannot_be_loaded_is_told_apart():
    with stand_in(None):
        device = HorovodDevice('', RankInfo())
        with pytest.raises(PSENetError, match=r'cannot be loaded \(.*horovod.*setup-horovod'):
            device.prepare()


def test_horovod_is_not_connected_before_the_readers_run():
    hvd = HorovodStandIn(1, 2)
    with stand_in(hvd):
        device = HorovodDevice('', RankInfo(1, 2))
        with pytest.raises(ValueError, match='not been initialized'):
            hvd.rank()
        device.prepare()
    assert hvd.rank() == 1


def test_a_launcher_that_numbers_in_another_way_is_refused():
    with stand_in(HorovodStandIn(2, 4)), \
            pytest.raises(PSENetError, match='rank 2 of 4, but the environment rank 0 of 1'):
        HorovodDevice('', RankInfo()).prepare()


def test_processes_that_do_not_reach_each_other_are_said(monkeypatch):
    def fail(_):
        raise ValueError('Horovod initialization failed')
    monkeypatch.setattr(HorovodStandIn, 'init', fail)
    with stand_in(HorovodStandIn(1, 2)), \
            pytest.raises(PSENetError, match=r'rank 1 of 2 .*could not reach.*docs/distributed'):
        HorovodDevice('', RankInfo(1, 2)).prepare()


def test_one_tower_in_the_place_that_the_launcher_gave():
    device = prepared(RankInfo(3, 4, 1, 2))
    assert (device.num_towers, device.rank, device.world_size) == (1, 3, 4)


def test_gradients_are_averaged_and_applied_by_the_optimizer_itself(first, session):
    weight = tf.get_variable('weight', initializer=1.0)
    apart = tf.get_variable('apart', initializer=1.0)
    optimizer = first.wrap_optimizer(tf.train.GradientDescentOptimizer(0.5))
    gradients = optimizer.compute_gradients(2.0 * weight)
    update = optimizer.apply_gradients(gradients)
    session.run(tf.global_variables_initializer())
    session.run(update)
    assert [gradient is None for gradient, _ in gradients] == [False, True]
    assert session.run([weight, apart]) == [1 - 0.5 * (2 + 4) / 2, 1]


def test_the_mean_over_the_processes(first, session):
    assert session.run(first.mean_over_ranks(tf.constant([0.0, 2.0]))).tolist() == [2, 3]


def test_variables_of_rank_0_reach_all(first, session):
    given = tf.get_variable('given', initializer=[1.0, 2.0])
    kept = tf.get_variable('kept', initializer=1.0)
    session.run(tf.global_variables_initializer())
    session.run(first.broadcast_op([given]))
    assert session.run(given).tolist() == [4, 4]
    assert session.run(kept) == 1


def test_a_process_alone_changes_nothing():
    device = prepared(RankInfo())
    optimizer, values = tf.train.AdamOptimizer(), tf.constant([1.0])
    assert device.wrap_optimizer(optimizer) is optimizer
    assert device.mean_over_ranks(values) is values
    assert device.broadcast_op([]) is None


@pytest.mark.parametrize(('message', 'is_peer'), [
    ('Horovod has been shut down. This was caused by an exception on one of the ranks', True),
    ('Mismatched allreduce tensor shapes', False),
])
def test_the_failure_of_a_peer_is_known_by_its_message(first, message, is_peer):
    assert first.is_peer_failure(tf.errors.UnknownError(None, None, message)) == is_peer
