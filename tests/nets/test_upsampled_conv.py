"""The convolution before the enlarging, against the one after it."""

import numpy as np
import pytest
import tensorflow as tf

from nets.fpn import fuse_feature_pyramid
from nets.model import model
from nets.upsampled_conv import upsampled_conv
from tests.reference_rule import load_rule_weights

CHANNELS, DEPTH = 3, 5


@pytest.mark.parametrize('batch, height, width', [(1, 8, 16), (2, 16, 8), (3, 24, 40)])
@pytest.mark.parametrize('known', [True, False])
def test_it_equals_the_convolution_of_the_fused_pyramid(batch, height, width, known):
    rng = np.random.RandomState(0)
    arrays = [rng.randn(batch, height // s, width // s, CHANNELS) for s in (1, 2, 4, 8)]
    shapes = [array.shape if known else [None, None, None, CHANNELS] for array in arrays]
    with tf.Graph().as_default(), tf.Session() as session:
        kernel = tf.constant(rng.randn(3, 3, 4 * CHANNELS, DEPTH), tf.float32)
        pyramid = [tf.placeholder(tf.float32, shape) for shape in shapes]
        found, expected = session.run(
            [upsampled_conv(pyramid[::-1], kernel),
             tf.nn.conv2d(fuse_feature_pyramid(pyramid), kernel, 1, 'SAME')],
            dict(zip(pyramid, arrays)))
    assert found.shape == (batch, height, width, DEPTH)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


def test_the_network_has_the_same_variables_and_scores():
    images = np.random.RandomState(1).randint(0, 256, (2, 64, 96, 3))
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, None, None, 3])
        plain = model(placeholder, is_training=False)
        variables = tf.global_variables()
        with tf.variable_scope('', reuse=True):
            enlarged_last = model(placeholder, is_training=False, upsample_last=True)
        assert tf.global_variables() == variables
        load_rule_weights(session, variables)
        expected, found = session.run([plain, enlarged_last], {placeholder: images})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_network_that_enlarges_last_creates_the_variables_of_the_other():
    created = []
    for upsample_last in (False, True):
        with tf.Graph().as_default():
            model(tf.zeros([1, 32, 32, 3]), is_training=False, upsample_last=upsample_last)
            created.append([(v.op.name, v.shape.as_list()) for v in tf.global_variables()])
    assert created[0] == created[1]


def test_it_is_not_for_training():
    with tf.Graph().as_default(), pytest.raises(ValueError, match='for inference'):
        model(tf.zeros([1, 32, 32, 3]), upsample_last=True)
