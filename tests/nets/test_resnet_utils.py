"""Striding and padding on numbers that can be checked by eye."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.contrib import slim

from nets.resnet.resnet_utils import conv2d_same, resnet_arg_scope, subsample


@pytest.fixture
def session():
    """An empty graph and a session of it."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def _ramp(height, width):
    return tf.reshape(tf.range(height * width, dtype=tf.float32), [1, height, width, 1])


def test_subsample_keeps_the_first_of_every_stride(session):
    kept = session.run(subsample(_ramp(3, 5), 2))
    np.testing.assert_array_equal(kept[0, :, :, 0], [[0, 2, 4], [10, 12, 14]])


def test_subsample_by_one_is_the_input_itself(session):
    features = _ramp(3, 5)
    assert subsample(features, 1) is features


@pytest.mark.parametrize('size', [4, 5])
def test_strided_convolution_is_the_subsampled_plain_one(session, size):
    with slim.arg_scope([slim.conv2d], weights_initializer=tf.ones_initializer()):
        strided = conv2d_same(_ramp(size, size), 1, 3, stride=2, scope='strided')
        plain = conv2d_same(_ramp(size, size), 1, 3, stride=1, scope='plain')
    session.run(tf.global_variables_initializer())
    actual, expected = session.run([strided, plain])
    np.testing.assert_array_equal(actual, expected[:, ::2, ::2])


def test_strided_convolution_pads_evenly(session):
    with slim.arg_scope([slim.conv2d], weights_initializer=tf.ones_initializer()):
        strided = conv2d_same(tf.ones([1, 4, 4, 1]), 1, 3, stride=2, scope='strided')
    session.run(tf.global_variables_initializer())
    # TF's SAME would pad at the bottom right only: [[9, 6], [6, 4]].
    np.testing.assert_array_equal(session.run(strided)[0, :, :, 0], [[4, 6], [6, 9]])


def test_arg_scope_gives_every_convolution_a_batch_norm_and_l2(session):
    with resnet_arg_scope(weight_decay=0.5, is_training=True, batch_norm_decay=0.9):
        slim.conv2d(_ramp(2, 2), 1, 1, scope='conv')
    names = [variable.op.name for variable in tf.global_variables()]
    assert names == [
        'conv/weights',
        'conv/BatchNorm/gamma',
        'conv/BatchNorm/beta',
        'conv/BatchNorm/moving_mean',
        'conv/BatchNorm/moving_variance',
    ]
    (regularizer,) = tf.losses.get_regularization_losses()
    weight = tf.global_variables()[0]
    value = session.run(regularizer, {weight.value(): np.full([1, 1, 1, 1], 2, np.float32)})
    assert value == 0.5 * 2**2 / 2
