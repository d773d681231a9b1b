"""What NpuDevice answers, and steps that it leaves out, over the fake adapter."""

import json
import os
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from tests.npu_ranks import rank_table
from tests.training.npu_on_path import fake_npu_bridge
from training.devices.device import Limits
from training.devices.npu.options import NpuConfig
from training.devices.npu.session import NpuDevice
from training.towers import apply_then
from utils.errors import PSENetError

RATE = 0.1


@pytest.fixture
def fake():
    """The fake adapter, which overflows in the 2nd, 3rd and 5th step."""
    with fake_npu_bridge(FAKE_NPU_OVERFLOW_STEPS='2,3,5'):
        yield


def prepared(**options):
    """A device ready for a graph."""
    device = NpuDevice(NpuConfig(**options))
    device.prepare()
    return device


def test_without_the_adapter_a_sentence_says_what_is_missing():
    with pytest.raises(PSENetError, match=r'npu_bridge.* not installed.*train\.py is for GPUs'):
        NpuDevice(NpuConfig())


def test_an_adapter_without_its_libraries_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / 'npu_bridge').mkdir()
    (tmp_path / 'npu_bridge' / '__init__.py').write_text('npu_bridge_handle.init()\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    device = NpuDevice(NpuConfig())
    with pytest.raises(PSENetError, match=r"cannot be loaded \(name 'npu_bridge_handle'.*set_env"):
        device.prepare()


def test_the_adapter_is_not_loaded_before_the_readers_run(fake):
    device = NpuDevice(NpuConfig())
    assert 'npu_bridge' not in sys.modules
    device.prepare()
    assert 'npu_bridge.estimator.npu.npu_optimizer' in sys.modules


def test_empty_variables_do_not_reach_the_adapter(fake, monkeypatch):
    for name in ('RANK_SIZE', 'CM_WORKER_SIZE', 'RANK_TABLE_FILE'):
        monkeypatch.setenv(name, '')
    with tf.Graph().as_default():
        prepared().wrap_optimizer(tf.train.AdamOptimizer(0.1))
    assert 'RANK_SIZE' not in os.environ


@pytest.mark.parametrize('device', [0, 1])
def test_the_adapter_tells_the_rank_where_a_chief_describes_the_job(device):
    with fake_npu_bridge(
            FAKE_NPU_RELEASE='master', CM_WORKER_SIZE='2', CM_CHIEF_IP='10.0.0.1',
            CM_CHIEF_PORT='60001', CM_CHIEF_DEVICE='0', CM_WORKER_IP='10.0.0.1', JOB_ID='10087',
            ASCEND_DEVICE_ID=str(device)):
        npu = NpuDevice(NpuConfig())
        assert (npu.rank, npu.world_size) == (device, 2)


def test_the_environment_is_checked_at_once(fake, monkeypatch):
    monkeypatch.setenv('RANK_SIZE', '8')
    with pytest.raises(PSENetError, match='for a job of 8 NPUs'):
        NpuDevice(NpuConfig())
    monkeypatch.delenv('RANK_SIZE')
    with pytest.raises(PSENetError, match=r'mstune_mode=\.\.\. is for tuning on several NPUs'):
        NpuDevice(NpuConfig(options={'mstune_mode': '1', 'work_path': '.'}))


def test_one_tower_without_a_device_scope(fake):
    device = NpuDevice(NpuConfig(max_loss=7.0, max_skipped_steps=3))
    assert (device.num_towers, device.rank, device.world_size) == (1, 0, 1)
    assert device.limits == Limits(7.0, 3)
    assert device.broadcast_op([]) is None
    with tf.Graph().as_default(), device.tower_scope(0):
        assert tf.constant(0.0).device == ''


def test_the_session_has_one_optimizer_and_no_rewrites(fake, tmp_path):
    options = {'precision_mode': 'allow_mix_precision', 'mix_compile_mode': True,
               'op_debug_level': 2, 'enable_dump': True, 'dump_path': str(tmp_path)}
    config = prepared(options=options).session_config()
    rewrites = config.graph_options.rewrite_options
    optimizer, = rewrites.custom_optimizers
    assert optimizer.name == 'NpuOptimizer'
    assert rewrites.remapping == RewriterConfig.OFF
    assert rewrites.memory_optimization == RewriterConfig.OFF
    assert {key: (value.WhichOneof('value'), getattr(value, value.WhichOneof('value')))
            for key, value in optimizer.parameter_map.items()} == {
        'use_off_line': ('b', True), 'precision_mode': ('s', b'allow_mix_precision'),
        'mix_compile_mode': ('b', True), 'op_debug_level': ('i', 2), 'enable_dump': ('b', True),
        'dump_path': ('s', str(tmp_path).encode())}


def test_sessions_are_configured_alike_and_by_what_was_given_alone(fake):
    device = prepared()
    assert device.session_config() == device.session_config()
    # The fake refuses what the adapter would ignore, and two configurations in a process.
    for _ in range(2):
        with tf.Graph().as_default(), tf.Session(config=device.session_config()):
            pass
    optimizer, = device.session_config().graph_options.rewrite_options.custom_optimizers
    assert list(optimizer.parameter_map) == ['use_off_line']


class Training:
    """A weight that falls by RATE a step, a statistic that gains 1, an average that follows."""

    def __init__(self, **options):
        self.device = prepared(**options)
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.step = tf.get_variable('global_step', initializer=0.0, trainable=False)
            self.weight = tf.get_variable('weight', initializer=1.0)
            statistic = tf.get_variable('statistic', initializer=0.0, trainable=False)
            self.seen = tf.placeholder(tf.float32, [])
            update = tf.assign_sub(statistic, -self.seen)
            optimizer = self.device.wrap_optimizer(tf.train.GradientDescentOptimizer(RATE))
            self.gradients = optimizer.compute_gradients(self.weight)
            average, self.update = apply_then(optimizer, self.gradients, self.step, [update], 0.5)
            with tf.control_dependencies([self.update]):
                self.scale = self.device.step_scalars()['loss_scale']
            self.state = [self.step, self.weight, statistic, average.average(self.weight)]

    def run(self, seen):
        """Steps that see these values: [step, weight, statistic, average], scale after each."""
        rows = []
        with tf.Session(graph=self.graph, config=self.device.session_config()) as session:
            with self.graph.as_default():
                session.run(tf.global_variables_initializer())
            for value in seen:
                scale = session.run([self.update, self.scale], {self.seen: value})[1]
                rows.append((session.run(self.state), float(scale)))
        return rows


def test_a_step_that_overflows_changes_nothing(fake):
    rows = [state for state, _ in Training().run([1.0] * 6)]
    steps = [row[0] for row in rows]
    assert steps == [1, 1, 1, 2, 2, 3]
    np.testing.assert_allclose([row[1] for row in rows], 1 - RATE * np.array(steps), rtol=1e-6)
    assert [row[2] for row in rows] == steps
    assert [row[3] for row in rows] == [rows[0][3]] * 3 + [rows[3][3]] * 2 + [rows[5][3]]


def test_statistics_of_a_step_that_overflows_are_lost_with_it(fake):
    infinite = float('inf')
    rows = [state for state, _ in Training().run([1.0, infinite, float('nan'), 1.0, infinite, 1.0])]
    assert [row[2] for row in rows] == [1, 1, 1, 2, 2, 3]


def test_the_average_counts_updates_only(fake):
    average, expected = 1.0, []
    for step in (1, 2, 3):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * (1 - RATE * step)
        expected.append(average)
    rows = [state[3] for state, _ in Training().run([1.0] * 6)]
    np.testing.assert_allclose([rows[0], rows[3], rows[5]], expected, rtol=1e-6)


def test_a_fixed_scale_stays(fake):
    assert {scale for _, scale in Training(loss_scale=512.0).run([0.0] * 6)} == {512.0}


def test_a_dynamic_scale_halves_at_every_second_overflow(fake):
    training = Training(loss_scale=2.0 ** 15, loss_scale_mode='dynamic')
    scales = [scale for _, scale in training.run([0.0] * 6)]
    assert np.log2(scales).tolist() == [15, 15, 14, 14, 14, 14]


def test_a_dynamic_scale_doubles_after_a_thousand_clean_steps():
    with fake_npu_bridge():
        training = Training(loss_scale=1024.0, loss_scale_mode='dynamic')
        scales = [scale for _, scale in training.run([0.0] * 1001)]
    assert scales[998:] == [1024, 2048, 2048]


def test_gradients_come_out_unscaled(fake):
    training = Training(loss_scale=1024.0)
    with tf.Session(graph=training.graph, config=training.device.session_config()) as session:
        session.run(training.weight.initializer)
        assert session.run(training.gradients[0][0]) == 1.0


def test_a_statistic_that_cannot_be_left_out_is_refused(fake):
    device = prepared()
    with tf.Graph().as_default():
        step = tf.get_variable('global_step', initializer=0.0, trainable=False)
        weight = tf.get_variable('weight', initializer=1.0)
        optimizer = device.wrap_optimizer(tf.train.GradientDescentOptimizer(RATE))
        gradients = optimizer.compute_gradients(weight)
        with pytest.raises(ValueError, match='is not an AssignSub'):
            apply_then(optimizer, gradients, step, [tf.assign(weight, 0.0)], 0.5)


@pytest.fixture
def rank(fake, monkeypatch, tmp_path):
    """Makes this process rank 1 of 2."""
    table = tmp_path / 'table.json'
    table.write_text(json.dumps(rank_table(2)))
    for name, value in {'RANK_SIZE': '2', 'RANK_ID': '1', 'JOB_ID': '1', 'ASCEND_DEVICE_ID': '1',
                        'DEVICE_ID': '1', 'RANK_TABLE_FILE': str(table)}.items():
        monkeypatch.setenv(name, value)


def ops_named(part):
    """Names of the ops of the default graph that stand for a collective of the device."""
    return [op.name for op in tf.get_default_graph().get_operations()
            if op.type == 'IdentityN' and part in op.name]


def test_a_rank_averages_gradients_and_heeds_the_overflow_of_others(rank):
    device = prepared()
    assert (device.rank, device.world_size) == (1, 2)
    with tf.Graph().as_default():
        optimizer = device.wrap_optimizer(tf.train.AdamOptimizer(RATE))
        weight = tf.get_variable('weight', initializer=1.0)
        gradients = optimizer.compute_gradients(weight)
        assert ops_named('') == ['DistributedAdamOptimizer_Allreduce/HcomAllReduce']
        optimizer.apply_gradients(gradients)
        assert ops_named('') == ['DistributedAdamOptimizer_Allreduce/HcomAllReduce',
                                 'HcomAllReduce']
        mean = device.mean_over_ranks(tf.ones([6]))
        assert mean.shape == [6]
        assert ops_named('HcomAllReduce_1') == ['HcomAllReduce_1']


def test_floats_are_broadcast_whether_trainable_or_not(rank):
    device = prepared()
    with tf.Graph().as_default():
        optimizer = device.wrap_optimizer(tf.train.AdamOptimizer(RATE))
        weight = tf.get_variable('weight', initializer=1.0)
        optimizer.apply_gradients(optimizer.compute_gradients(weight))
        tf.get_variable('counter', initializer=1, trainable=False)
        op = device.broadcast_op(tf.global_variables())
        assert isinstance(op, tf.Operation)
        floats = [one for one in tf.global_variables() if one.dtype.base_dtype == tf.float32]
        assert len(ops_named('HcomBroadcast')) == len(floats) == 5


def test_a_rank_tells_a_failed_collective_from_other_failures(rank):
    device = prepared()
    assert device.is_peer_failure(tf.errors.InternalError(None, None, 'HcomAllReduce'))
    assert not device.is_peer_failure(tf.errors.ResourceExhaustedError(None, None, 'memory'))


def test_one_device_has_no_peers_and_no_collectives(fake):
    device = prepared()
    assert not device.is_peer_failure(tf.errors.InternalError(None, None, 'failure'))
    with tf.Graph().as_default():
        values = tf.ones([6])
        assert device.mean_over_ranks(values) is values
        assert device.broadcast_op([]) is None


def test_a_release_that_would_train_each_rank_for_itself_is_refused(rank, monkeypatch):
    for name in ('RANK_SIZE', 'RANK_TABLE_FILE'):
        monkeypatch.delenv(name)
    for name, value in {'CM_CHIEF_IP': '10.0.0.1', 'CM_CHIEF_PORT': '60001', 'CM_CHIEF_DEVICE': '0',
                        'CM_WORKER_SIZE': '2', 'CM_WORKER_IP': '10.0.0.2'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('FAKE_NPU_RELEASE', 'r1.8.0')
    device = prepared()
    with tf.Graph().as_default():
        weight = tf.get_variable('weight', initializer=1.0)
        device.wrap_optimizer(tf.train.AdamOptimizer(RATE)).compute_gradients(weight)
        with pytest.raises(PSENetError, match='does not average gradients over CM_WORKER_SIZE'):
            device.broadcast_op([weight])
