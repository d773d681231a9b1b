"""First weights by name and seed; spatial sizes with and without the graph's help."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.contrib import slim

from nets.layers import seeded_by_name, spatial_size


def test_static_size_is_python_ints_without_an_op():
    with tf.Graph().as_default() as graph:
        features = tf.placeholder(tf.float32, [None, 3, 5, None])
        before = len(graph.get_operations())
        size = spatial_size(features)
        assert size == [3, 5]
        assert all(isinstance(side, int) for side in size)
        assert len(graph.get_operations()) == before


@pytest.mark.parametrize('shape', [[1, None, 5, 2], [1, 3, None, 2], [None] * 4])
def test_unknown_size_is_that_of_what_is_fed(shape):
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, shape)
        size = session.run(spatial_size(features), {features: np.zeros([1, 3, 5, 2])})
    np.testing.assert_array_equal(size, [3, 5])


HE = slim.variance_scaling_initializer


def drawn(seed, ops_before=0, towers=('',)):
    """Two weights, a and b, [64, 64], of a graph with a seed and other ops before them."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        for _ in range(ops_before):
            tf.constant(0)
        for tower in towers:
            with tf.name_scope(tower or None), tf.variable_scope('net', reuse=tf.AUTO_REUSE):
                weights = [tf.get_variable(name, [64, 64], initializer=seeded_by_name(HE))
                           for name in 'ab']
        session.run(tf.global_variables_initializer())
        return session.run(weights)


def test_first_weights_depend_on_seed_and_name_alone():
    first, other = drawn(3)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first - drawn(4)[0]).max() > 0.01
    for same in (drawn(3, ops_before=5), drawn(3, towers=('tower_0', 'tower_1'))):
        np.testing.assert_array_equal(same, [first, other])


def test_first_weights_keep_their_variance():
    np.testing.assert_allclose(np.std(drawn(3)), np.sqrt(2 / 64), rtol=0.02)
