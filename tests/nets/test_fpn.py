"""The pyramid's sizes, levels and order, on maps small enough to write down."""

import numpy as np
import pytest
import tensorflow as tf

from nets.fpn import PYRAMID_DEPTH, build_feature_pyramid, fuse_feature_pyramid

SIDES = ([13, 9], [7, 5], [4, 3], [2, 2])
CHANNELS = (2, 3, 5, 7)


@pytest.fixture
def session():
    """An empty graph and a session of it."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def _level(height, width, value):
    return tf.fill([1, height, width, 1], float(value))


def test_levels_have_the_size_of_their_features():
    with tf.Graph().as_default():
        features = [tf.zeros([2, *sides, c]) for sides, c in zip(SIDES, CHANNELS)]
        pyramid = build_feature_pyramid(features, weight_decay=1e-5)
    assert [level.shape.as_list() for level in pyramid] == [
        [2, *sides, PYRAMID_DEPTH] for sides in SIDES
    ]


def test_unknown_sizes_give_the_same_pyramid(session):
    rng = np.random.RandomState(0)
    arrays = [rng.rand(1, *sides, c) for sides, c in zip(SIDES, CHANNELS)]
    static = [tf.constant(array, tf.float32) for array in arrays]
    dynamic = [tf.placeholder(tf.float32, [None, None, None, c]) for c in CHANNELS]
    fused = []
    for features in (static, dynamic):
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            fused.append(fuse_feature_pyramid(build_feature_pyramid(features, 1e-5)))
    session.run(tf.global_variables_initializer())
    expected, actual = session.run(fused, dict(zip(dynamic, arrays)))
    np.testing.assert_array_equal(actual, expected)


def test_a_coarser_level_is_added_by_nearest_neighbour(session):
    features = [tf.zeros([1, 2, 4, 1]) for _ in range(3)]
    features.append(tf.constant([[[[1.0], [2.0]]]]))
    build_feature_pyramid(features, weight_decay=1e-5)
    resized = session.graph.get_tensor_by_name(
        'build_feature_pyramid/build_P4/ResizeNearestNeighbor:0'
    )
    p5 = session.graph.get_tensor_by_name('build_feature_pyramid/build_P5/Relu:0')
    session.run(tf.global_variables_initializer())
    coarse, fine = session.run([p5, resized])
    np.testing.assert_array_equal(fine, coarse.repeat(2, axis=2).repeat(2, axis=1))


def test_every_convolution_of_the_pyramid_is_regularized():
    with tf.Graph().as_default() as graph:
        build_feature_pyramid([tf.zeros([1, 1, 1, 1])] * 4, weight_decay=1e-5)
        weights = [v for v in tf.trainable_variables() if v.op.name.endswith('/weights')]
        assert len(graph.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == len(weights)


def test_fusion_concatenates_the_coarsest_level_first(session):
    pyramid = [_level(8, 16, 2), _level(4, 8, 3), _level(2, 4, 4), _level(1, 2, 5)]
    fused = session.run(fuse_feature_pyramid(pyramid))
    np.testing.assert_array_equal(fused, np.broadcast_to([5, 4, 3, 2], [1, 8, 16, 4]))


def test_fusion_interpolates_from_the_top_left_corner(session):
    p3 = tf.constant([[[[0.0], [1.0]]]])
    fused = session.run(fuse_feature_pyramid([_level(1, 4, 0), p3, p3, p3]))
    np.testing.assert_array_equal(fused[0, 0, :, 2], [0, 0.5, 1, 1])
