"""Loss scaling: what is scaled, what a dirty status skips, the rule of the scale."""

import os
import re
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.fakes_tests.conftest import npu_config

NPU = 'npu_bridge.estimator.npu.'


class Training:
    """One weight of value 1 whose gradient is 3, learning rate 0.5, and an optimizer chain."""

    def __init__(self, fake, manager, factor=3.0):
        self.weight = tf.get_variable('weight', initializer=1.0)
        self.step = tf.get_variable('step', initializer=0.0, trainable=False)
        inner = fake.module(NPU + 'npu_optimizer').NPUDistributedOptimizer(
            tf.train.GradientDescentOptimizer(0.5))
        self.optimizer = fake.module(NPU + 'npu_loss_scale_optimizer').NPULossScaleOptimizer(
            inner, manager)
        self.gradients = self.optimizer.compute_gradients(self.weight * factor)
        self.update = self.optimizer.apply_gradients(self.gradients, self.step)
        self.session = tf.Session(config=npu_config())
        self.session.run(tf.global_variables_initializer())

    def run(self, steps):
        """Takes steps; returns the values of (weight, step) after each."""
        return [self.session.run(self.update) or self.session.run((self.weight, self.step))
                for _ in range(steps)]


def fixed(fake, *args, **kwargs):
    return fake.module(NPU + 'npu_loss_scale_manager').FixedLossScaleManager(*args, **kwargs)


def exponential(fake, *args, **kwargs):
    return fake.module(NPU + 'npu_loss_scale_manager').ExponentialUpdateLossScaleManager(
        *args, **kwargs)


RELEASES = ('r1.1.1', 'development', 'r1.5.0', 'master')


@pytest.mark.parametrize('release', RELEASES)
def test_gradients_are_those_without_scaling(fake, release):
    training = Training(fake(release), fixed(fake, 1024))
    gradient, _ = training.gradients[0]
    assert training.session.run(gradient) == 3
    assert training.run(2) == [(-0.5, 1), (-2, 2)]


def test_the_inner_optimizer_sees_the_scaled_loss(fake):
    fake()
    seen = []

    class Inner(tf.train.GradientDescentOptimizer):
        def compute_gradients(self, loss, *args, **kwargs):
            seen.append(loss)
            return super().compute_gradients(loss, *args, **kwargs)
    optimizer = fake.module(NPU + 'npu_loss_scale_optimizer').NPULossScaleOptimizer(
        Inner(1.0), fixed(fake, 1024))
    optimizer.compute_gradients(tf.get_variable('weight', initializer=1.0) * 3)
    with tf.Session(config=npu_config()) as session:
        session.run(tf.global_variables_initializer())
        assert session.run(seen) == [3072]


@pytest.mark.parametrize('release', RELEASES)
def test_an_overflow_skips_the_update_and_global_step(fake, monkeypatch, record, release):
    monkeypatch.setenv('FAKE_NPU_OVERFLOW_STEPS', '2,3')
    training = Training(fake(release), fixed(fake, 1024))
    assert training.run(4) == [(-0.5, 1), (-0.5, 1), (-0.5, 1), (-2, 2)]
    assert [event['run'] for event in record('overflow')] == [2, 3]


def test_a_signal_comes_in_the_run_that_is_named(fake, monkeypatch):
    sent = []
    monkeypatch.setenv('FAKE_NPU_SIGNAL', '2:SIGTERM')
    monkeypatch.setattr(os, 'kill', lambda pid, number: sent.append((pid, number)))
    training = Training(fake(), fixed(fake, 1024))
    training.run(1)
    assert sent == []
    training.run(2)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_without_the_check_an_overflow_is_applied(fake, monkeypatch):
    monkeypatch.setenv('FAKE_NPU_OVERFLOW_STEPS', '1')
    training = Training(fake('r1.5.0'), fixed(fake, 1024, enable_overflow_check=False))
    assert training.run(1) == [(-0.5, 1)]


def test_the_device_saturates_and_says_so_by_its_status_alone(fake):
    training = Training(fake(), fixed(fake, 1024), factor=1e37)
    gradient, _ = training.gradients[0]
    assert training.session.run(gradient) == np.float32(np.finfo('float32').max / 1024)
    assert training.run(1) == [(1, 0)]


def test_the_scale_follows_the_rule(fake, monkeypatch):
    monkeypatch.setenv('FAKE_NPU_OVERFLOW_STEPS', '3,5,6')
    training = Training(fake(), exponential(fake, 16, 2, decr_every_n_nan_or_inf=2,
                                            decr_ratio=0.5))
    states = []
    for _ in range(8):
        training.run(1)
        states.append(tuple(training.session.run(
            [variable for variable in tf.global_variables()
             if variable.op.name in ('loss_scale', 'good_steps', 'bad_steps')])))
    # Bad steps add up over clean ones between them, good ones start anew.
    assert states == [(16, 1, 0), (32, 0, 0), (32, 0, 1), (32, 1, 1), (16, 0, 0), (16, 0, 1),
                      (16, 1, 1), (32, 0, 0)]


def test_the_scale_stays_between_one_and_the_largest(fake, monkeypatch):
    monkeypatch.setenv('FAKE_NPU_OVERFLOW_STEPS', '1')
    manager = exponential(fake(), 1, 1, 1)
    training = Training(fake, manager, factor=1.0)
    training.run(1)
    assert training.session.run(manager.get_loss_scale()) == 1
    manager.get_loss_scale().load(2.0 ** 127, training.session)
    training.run(1)
    assert training.session.run(manager.get_loss_scale()) == 2.0 ** 127


def test_the_dynamic_manager_adds_three_variables_to_save(fake):
    exponential(fake(), 16, 2)
    assert [(variable.op.name, variable.dtype.base_dtype) for variable in tf.global_variables()] \
        == [('loss_scale', tf.float32), ('good_steps', tf.int32), ('bad_steps', tf.int32)]
    assert tf.trainable_variables() == []


@pytest.mark.parametrize('release, known', [('development', False), ('r1.5.0', True)])
def test_the_overflow_check_is_an_argument_from_r1_5_0_on(fake, release, known):
    fake(release)
    if known:
        fixed(fake, 2, enable_overflow_check=True)
    else:
        with pytest.raises(TypeError, match='enable_overflow_check'):
            fixed(fake, 2, enable_overflow_check=True)


def test_a_scale_below_one_is_refused(fake):
    with pytest.raises(ValueError, match='at least 1'):
        fixed(fake(), 0.5)


@pytest.mark.parametrize('release, is_inner', [('development', False), ('master', True)])
def test_attributes_of_the_inner_optimizer(fake, release, is_inner):
    fake(release)
    module = fake.module(NPU + 'npu_loss_scale_optimizer')
    inner = tf.train.AdamOptimizer(0.1)
    optimizer = module.NPULossScaleOptimizer(inner, fixed(fake, 2))
    weight = tf.get_variable('weight', initializer=1.0)
    optimizer.minimize(weight * 2)
    assert (optimizer.get_slot_names() == ['m', 'v']) == is_inner
    assert hasattr(optimizer, '_beta1') == is_inner


def test_none_gradients_survive_the_wrappers(fake):
    fake()
    unused = tf.get_variable('unused', initializer=1.0)
    training = Training(fake, fixed(fake, 2))
    assert (None, unused) in training.gradients
    assert training.run(1) == [(-0.5, 1)]


def test_several_ranks_demand_a_job(fake, monkeypatch):
    monkeypatch.setenv('RANK_SIZE', '2')
    fake()
    optimizer = fake.module(NPU + 'npu_optimizer').NPUDistributedOptimizer(
        tf.train.GradientDescentOptimizer(1))
    loss = tf.get_variable('weight', initializer=1.0) * 2
    with pytest.raises(AttributeError, match='_rank_size'):
        optimizer.compute_gradients(loss)
    monkeypatch.setenv('JOB_ID', '10087')
    (gradient, _), = optimizer.compute_gradients(loss)
    assert re.match(r'DistributedGradientDescentOptimizer_Allreduce\w*/truediv', gradient.op.name)


def test_is_distributed_builds_a_collective_even_for_one_rank(fake, monkeypatch):
    monkeypatch.setenv('JOB_ID', '10087')
    fake()
    module = fake.module(NPU + 'npu_loss_scale_optimizer')
    optimizer = module.NPULossScaleOptimizer(
        tf.train.GradientDescentOptimizer(1), fixed(fake, 2), is_distributed=True)
    with pytest.raises(RuntimeError, match='HcomAllReduce'):
        optimizer.minimize(tf.get_variable('weight', initializer=1.0) * 2)


def test_npu_optimizer_does_both(fake, monkeypatch):
    monkeypatch.setenv('FAKE_NPU_OVERFLOW_STEPS', '2')
    fake()
    weight = tf.get_variable('weight', initializer=1.0)
    optimizer = fake.module(NPU + 'npu_optimizer').NPUOptimizer(
        tf.train.GradientDescentOptimizer(0.5), fixed(fake, 1024), is_loss_scale=True)
    update = optimizer.minimize(weight * 3)
    with tf.Session(config=npu_config()) as session:
        session.run(tf.global_variables_initializer())
        values = [session.run(update) or session.run(weight) for _ in range(3)]
    assert values == [-0.5, -0.5, -2]
    with pytest.raises(ValueError, match='loss_scale_manager'):
        fake.module(NPU + 'npu_optimizer').NPUOptimizer(optimizer, is_loss_scale=True)
    with pytest.raises(TypeError, match='NoneType'):
        optimizer.apply_gradients([(None, weight)])
