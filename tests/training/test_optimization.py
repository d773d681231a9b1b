"""Learning rates and AdamW against their equations; clipping; the statistics' new measurement."""

import numpy as np
import pytest
import tensorflow as tf

from tests.small_network.sitecustomize import small_network
from tests.training.test_graph import feed, random_batch, start
from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.graph import build_train_graph
from training.hooks import MeasureStatisticsHook
from training.optimization import AdamW, build_learning_rate, clip_gradients


@pytest.mark.parametrize(('changes', 'expected'), [
    ({}, {0: 1, 9999: 1, 10000: 0.94}),
    ({'schedule': 'cosine', 'max_steps': 100}, {0: 1, 50: 0.5, 100: 0, 150: 0}),
    ({'warmup_steps': 4}, {0: 0.25, 3: 1, 4: 1}),
    ({'schedule': 'cosine', 'max_steps': 100, 'warmup_steps': 10},
     {4: 0.5 * 0.5 * (1 + np.cos(0.04 * np.pi))}),
])
def test_learning_rates(changes, expected):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.get_variable('global_step', [], tf.float32)
        rate = build_learning_rate(TrainConfig(learning_rate=1.0, **changes), GpuDevice(''), step)
        for number, wanted in expected.items():
            step.load(number, session)
            assert session.run(rate) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_adamw_by_its_equations():
    names = ('resnet_v1_50/conv1/weights', 'head/weights', 'head/biases')
    rng = np.random.RandomState(0)
    values = {name: rng.randn(3).astype(np.float32) for name in names}
    moments = {name: [np.zeros(3), np.zeros(3)] for name in names}
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=values[name]) for name in names]
        fed = [tf.placeholder(tf.float32, [3]) for _ in names]
        optimizer = AdamW(tf.constant(0.1), weight_decay=0.01, backbone_rate=0.5)
        update = optimizer.apply_gradients(zip(fed, variables))
        session.run(tf.global_variables_initializer())
        for step in range(1, 4):
            gradients = [rng.randn(3) for _ in names]
            session.run(update, dict(zip(fed, gradients)))
            for name, gradient in zip(names, gradients):
                rate = 0.05 if name.startswith('resnet') else 0.1
                first, second = moments[name]
                first[:] = 0.9 * first + 0.1 * gradient
                second[:] = 0.999 * second + 0.001 * gradient ** 2
                if name.endswith('weights'):
                    values[name] = values[name] * (1 - rate * 0.01)
                values[name] = values[name] - rate * np.sqrt(1 - 0.999 ** step) / (
                    1 - 0.9 ** step) * first / (np.sqrt(second) + 1e-8)
        for variable in variables:
            np.testing.assert_allclose(session.run(variable), values[variable.op.name], rtol=1e-4)
        # Those of Adam, so that runs may change from one to the other.
        assert {slot.op.name for slot in optimizer.variables()} >= {
            'head/weights/Adam', 'head/weights/Adam_1', 'beta1_power'}


def test_gradients_are_clipped_together():
    with tf.Graph().as_default(), tf.Session() as session:
        pairs = [(tf.constant([3.0]), 'a'), (tf.constant([4.0]), 'b')]
        assert clip_gradients(pairs, 0.0) is pairs
        clipped = clip_gradients(pairs, 1.0)
        assert [variable for _, variable in clipped] == ['a', 'b']
        np.testing.assert_allclose(session.run([gradient for gradient, _ in clipped]),
                                   [[0.6], [0.8]], rtol=1e-6)


MODERN = {'loss': 'hard_negatives', 'optimizer': 'adamw', 'backbone_rate': 0.5,
          'schedule': 'cosine', 'clip_norm': 5.0, 'soft_labels': True}


@pytest.mark.parametrize('gpus', ['', '0,1'])
def test_a_modern_step_learns(gpus):
    with tf.Graph().as_default(), small_network():
        config = TrainConfig(input_size=64, batch_size_per_gpu=2 // max(1, len(gpus) - 1),
                             learning_rate=3e-3, max_steps=20, **MODERN)
        graph = build_train_graph(config, GpuDevice(gpus))
        images, seg_maps, masks = random_batch(1, 2)
        batch = images, 16 * seg_maps, masks
        with tf.Session(config=GpuDevice(gpus).session_config()) as session:
            start(session)
            losses = [session.run(graph.fetches, feed(graph, batch)).scalars.total_loss
                      for _ in range(12)]
    assert losses[-1] < losses[0]


def test_statistics_are_those_of_the_averaged_weights_and_raw_weights_stay():
    with tf.Graph().as_default(), small_network():
        config = TrainConfig(input_size=64, batch_size_per_gpu=2, learning_rate=1e-2, max_steps=3,
                             measured_batches=2, batch_norm_decay=0.9)
        graph = build_train_graph(config, GpuDevice(''))
        batches = [random_batch(seed, 2) for seed in range(5)]
        with tf.Session() as session:
            start(session)
            for batch in batches[:3]:
                session.run(graph.fetches, feed(graph, batch))
            feeds = iter([{graph.inputs.images: batch[0]} for batch in batches[3:]])
            hook = MeasureStatisticsHook(graph, feeds, config, lambda: False)
            trainable = tf.trainable_variables()
            before = session.run(trainable)
            hook.end(session, 2)    # a run that a signal ended
            assert next(feeds)
            feeds = iter([{graph.inputs.images: batch[0]} for batch in batches[3:]])
            hook = MeasureStatisticsHook(graph, feeds, config, lambda: False)
            hook.end(session, 3)
            for value, now in zip(before, session.run(trainable)):
                np.testing.assert_array_equal(value, now)
            measured = session.run([variable for variable, _ in graph.statistics])
            # With the averaged weights a whole update leads to the batch's own statistics.
            for variable in trainable:
                variable.load(session.run(graph.average.average(variable)), session)
            expected = []
            for batch in batches[3:]:
                steps = session.run([step for _, step in graph.statistics],
                                    {graph.inputs.images: batch[0]})
                expected.append([value - step / 0.1 for value, step in zip(measured, steps)])
        assert len(measured) == 10
        for found, one, other in zip(measured, *expected):
            np.testing.assert_allclose(found, (one + other) / 2, rtol=1e-3,
                                       atol=1e-4 * np.abs(found).max())
