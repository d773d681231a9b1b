"""Collectives in sessions: two ranks in processes of their own, and what one rank is refused."""

import json
import sys

import pytest
import tensorflow as tf

from tests.fakes_tests.conftest import npu_config
from tests.npu_ranks import Ranks, rank_table

NPU = 'npu_bridge.estimator.npu.'


@pytest.fixture(scope='module', params=['r1.1.1', 'development'])
def answers(request, project_root, tmp_path_factory):
    """What each rank printed, and the release."""
    directory = tmp_path_factory.mktemp('collectives')
    ranks = Ranks(directory, 2, [sys.executable, '-m', 'tests.fakes_tests.rank_script'])
    path = f"{ranks.environment(0)['PYTHONPATH']}:{project_root}"
    # Rank 1 overflows in its first update and in its third, the first of the second training.
    ended = ranks.run(PYTHONPATH=path, FAKE_NPU_RELEASE=request.param,
                      FAKE_NPU_COLLECTIVE_TIMEOUT='120', FAKE_NPU_RECORD=str(directory / 'record'),
                      only={1: {'FAKE_NPU_OVERFLOW_STEPS': '1,3'}})
    assert [exit_code for exit_code, _ in ended] == [0, 0], ended
    return request.param, [json.loads(output.splitlines()[-1]) for _, output in ended]


def test_reductions(answers):
    _, (first, second) = answers
    total = [[3, 4], [6, -4]]
    gathered = [[1, 2], [3, 0], [2, 2], [3, -4]]
    assert first['reductions'] == [total, [[3, 3], [3, 3]], gathered, gathered[:2],
                                   [[0, 0], [0, 0]], [5, 6]]
    assert second['reductions'] == [total, [[3, 3], [3, 3]], gathered, gathered[2:],
                                    [[2, 4], [9, 0]], None]


def test_more_collectives_than_threads(answers):
    _, (first, second) = answers
    assert first['many'] == second['many'] == [2 * sum(range(1, 41))]


def test_the_adapters_broadcast_leaves_statistics_out_since_development(answers):
    release, (first, second) = answers
    assert first['broadcast'] == [1, 3]
    assert second['broadcast'] == ([1, 3] if release == 'r1.1.1' else [1, 4])


def test_gradients_are_averaged_and_an_overflow_skips_the_update_of_all(answers):
    _, (first, second) = answers
    assert first['together'] == second['together'] == [10, 8]


def test_without_is_distributed_ranks_part(answers):
    _, (first, second) = answers
    assert (first['apart'], second['apart']) == ([8, 6], [10, 8])


def test_ranks_can_be_asked_for(answers):
    _, (first, second) = answers
    assert (first['ranks'], second['ranks']) == ([2, 0, 2, 0], [2, 1, 2, 1])


def test_what_ranks_do_not_agree_on_ends_the_run_of_all(answers):
    _, (first, second) = answers
    for kind, message in (first['disagreement'], second['disagreement']):
        assert kind == 'InternalError'
        assert message.startswith('the ranks run different collectives: rank 0 HcomAllReduce #')
        assert 'reduction=sum' in message
        assert 'reduction=max' in message


@pytest.fixture
def rank_0(fake, monkeypatch, tmp_path):
    """The first of two ranks, whose peer never comes."""
    table = tmp_path / 'table.json'
    table.write_text(json.dumps(rank_table(2)))
    for name, value in {'RANK_SIZE': '2', 'RANK_ID': '0', 'JOB_ID': '1',
                        'RANK_TABLE_FILE': str(table),
                        'FAKE_NPU_COLLECTIVE_TIMEOUT': '0.2'}.items():
        monkeypatch.setenv(name, value)
    return fake()


def test_a_rank_that_runs_a_collective_alone_times_out(rank_0):
    weight = tf.get_variable('weight', initializer=[1.0, 2.0])
    total = rank_0.module('npu_bridge.hccl.hccl_ops').allreduce(weight, 'sum')
    with tf.Session(config=npu_config()) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            with pytest.raises(tf.errors.InternalError,
                               match='time-out on HcomAllReduce #1: rank 1 did not come'):
                session.run(total)
        # The session can still be used without the others.
        assert session.run(weight).tolist() == [1, 2]


def test_what_cannot_be_a_collective(rank_0):
    ops = rank_0.module('npu_bridge.hccl.hccl_ops')
    with pytest.raises(AssertionError, match='2 is the number of none of the 2 ranks'):
        ops.broadcast([tf.ones([2])], 2)
    with pytest.raises(AssertionError, match=r'rank_size=8, and RANK_SIZE=2'):
        ops.allgather(tf.ones([2]), 8)
    with pytest.raises(AssertionError, match=r'in a tf\.cond'):
        tf.cond(tf.constant(True), lambda: ops.allreduce(tf.ones([2]), 'sum'),
                lambda: tf.ones([2]))
    with pytest.raises(AssertionError, match='sends to itself'):
        ops.send(tf.ones([2]), 1, 0)
    with pytest.raises(AssertionError, match=r'shape \(\?,\)'):
        ops.allreduce(tf.placeholder_with_default([1.0], [None]), 'sum')
    weight = tf.get_variable('weight', initializer=[1.0])
    with pytest.raises(LookupError, match='HcomBroadcast'):
        tf.gradients(ops.broadcast([weight], 0), weight)


def test_a_rank_alone_has_nobody_to_talk_to(fake):
    fake()
    with pytest.raises(RuntimeError, match='HcomAllReduce: with RANK_SIZE=1'):
        fake.module('npu_bridge.hccl.hccl_ops').allreduce(tf.ones([2]), 'sum')
