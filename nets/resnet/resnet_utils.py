"""Padding, striding and layer defaults of the published ResNet weights."""

from typing import ContextManager

import tensorflow as tf
from tensorflow.contrib import slim

from nets.layers import batch_norm_params, seeded_by_name


def subsample(features: tf.Tensor, stride: int) -> tf.Tensor:
    """Keeps every ``stride``-th row and column, starting with the first.

    Args:
        features: float32 [N, H, W, C].
        stride: 1 returns the input itself.

    Returns:
        float32 [N, ceil(H / stride), ceil(W / stride), C].
    """
    if stride == 1:
        return features
    return slim.max_pool2d(features, [1, 1], stride=stride)


def conv2d_same(
    features: tf.Tensor, num_outputs: int, kernel_size: int, stride: int, scope: str
) -> tf.Tensor:
    """Convolution with padding that does not depend on the size of the input.

    With stride 2, TensorFlow's SAME pads inputs of even size less at the top and left than at the
    bottom and right, and inputs of odd size symmetrically. The ImageNet weights were trained with
    symmetric padding, which is therefore explicit, followed by a VALID convolution.

    Args:
        features: float32 [N, H, W, C].
        num_outputs: number of filters.
        kernel_size: side of the square kernel, odd.
        stride: output stride.
        scope: variable scope of the convolution.

    Returns:
        float32 [N, ceil(H / stride), ceil(W / stride), num_outputs].
    """
    if stride == 1:
        return slim.conv2d(features, num_outputs, kernel_size, padding='SAME', scope=scope)
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    padded = tf.pad(features, [[0, 0], [before, after], [before, after], [0, 0]])
    return slim.conv2d(
        padded, num_outputs, kernel_size, stride=stride, padding='VALID', scope=scope
    )


def resnet_arg_scope(
    weight_decay: float, is_training: bool, batch_norm_decay: float
) -> ContextManager:
    """Layer defaults of a ResNet: L2 on conv weights, He initialization, batch norm, ReLU.

    Args:
        weight_decay: factor of the L2 regularizer of the convolutions' weights.
        is_training: see ``nets.layers.batch_norm_params``.
        batch_norm_decay: decay of the moving statistics.

    Returns:
        The arg scope.
    """
    return slim.arg_scope(
        [slim.conv2d],
        weights_regularizer=slim.l2_regularizer(weight_decay),
        weights_initializer=seeded_by_name(slim.variance_scaling_initializer),
        activation_fn=tf.nn.relu,
        normalizer_fn=slim.batch_norm,
        normalizer_params=batch_norm_params(is_training, batch_norm_decay),
    )
