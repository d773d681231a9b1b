"""Spatial sizes with and without the graph's help."""

import numpy as np
import pytest
import tensorflow as tf

from nets.layers import spatial_size


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
