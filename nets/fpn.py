"""Feature pyramid (Lin et al., 2017) and the fusion of its levels (PSENet paper, section 3.2)."""

from typing import Sequence, Tuple

import tensorflow as tf
from tensorflow.contrib import slim

from nets.layers import seeded_by_name, spatial_size

PYRAMID_DEPTH = 256


def _merge(coarser: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    lateral = slim.conv2d(features, PYRAMID_DEPTH, 1, scope='reduce_dimension')
    upsampled = tf.image.resize_nearest_neighbor(coarser, spatial_size(features))
    return slim.conv2d(upsampled + lateral, PYRAMID_DEPTH, 3, scope='avoid_aliasing')


def build_feature_pyramid(
    features: Sequence[tf.Tensor], weight_decay: float
) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Builds the pyramid: merges deep features into shallow ones, level by level.

    Unlike in the paper, every convolution is followed by a ReLU (slim's default), as in the
    published weights.

    Args:
        features: (C2, C3, C4, C5), float32 [N, H/s, W/s, c] at strides s = 4, 8, 16, 32.
        weight_decay: factor of the L2 regularizer of the convolutions' weights.

    Returns:
        (P2, P3, P4, P5), float32 [N, H/s, W/s, 256] at the same strides.
    """
    c2, c3, c4, c5 = features
    regularizer = slim.l2_regularizer(weight_decay)
    with tf.variable_scope('build_feature_pyramid'), slim.arg_scope(
        [slim.conv2d], weights_regularizer=regularizer,
        weights_initializer=seeded_by_name(slim.xavier_initializer)
    ):
        p5 = slim.conv2d(c5, PYRAMID_DEPTH, 1, scope='build_P5')
        with tf.variable_scope('build_P4'):
            p4 = _merge(p5, c4)
        with tf.variable_scope('build_P3'):
            p3 = _merge(p4, c3)
        with tf.variable_scope('build_P2'):
            p2 = _merge(p3, c2)
    return p2, p3, p4, p5


def fuse_feature_pyramid(pyramid: Sequence[tf.Tensor]) -> tf.Tensor:
    """Resizes all levels to the size of the finest and concatenates them, coarsest first.

    Args:
        pyramid: (P2, P3, P4, P5), float32 [N, H/s, W/s, C] at strides s = 4, 8, 16, 32.

    Returns:
        float32 [N, H/4, W/4, 4 C], channels in the order P5, P4, P3, P2.
    """
    p2, p3, p4, p5 = pyramid
    with tf.name_scope('fuse_feature_pyramid'):
        size = spatial_size(p2)
        coarse = [tf.image.resize_bilinear(level, size) for level in (p5, p4, p3)]
        return tf.concat([*coarse, p2], axis=-1)
