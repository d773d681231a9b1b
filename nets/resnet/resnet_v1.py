"""ResNet version 1 (He et al., 2015), with the names and strides of TF-slim's checkpoints.

It differs from the paper in two respects, on which the weights depend: the stride is in the last
unit of a block, not in the first unit of the next, and it is in the 3x3 convolution.
"""

from typing import NamedTuple, Sequence, Tuple

import tensorflow as tf
from tensorflow.contrib import slim

from nets.resnet.resnet_utils import conv2d_same, resnet_arg_scope, subsample


class Block(NamedTuple):
    """A sequence of bottleneck units; the last has the stride."""

    num_units: int
    depth: int
    bottleneck_depth: int
    stride: int


def _blocks(*num_units: int) -> Tuple[Block, ...]:
    return tuple(Block(units, 256 * 2 ** place, 64 * 2 ** place, stride)
                 for place, (units, stride) in enumerate(zip(num_units, (2, 2, 2, 1))))


BLOCKS = {
    'resnet_v1_50': _blocks(3, 4, 6, 3),
    'resnet_v1_101': _blocks(3, 4, 23, 3),
    'resnet_v1_152': _blocks(3, 8, 36, 3),
}


def bottleneck(
    features: tf.Tensor, depth: int, bottleneck_depth: int, stride: int, scope: str
) -> tf.Tensor:
    """A residual unit: 1x1 down, 3x3, 1x1 up, added to its input (paper, figure 5, right).

    Args:
        features: float32 [N, H, W, C].
        depth: output channels; if it differs from C, the shortcut is a 1x1 convolution.
        bottleneck_depth: channels of the 3x3 convolution.
        stride: stride of the 3x3 convolution and of the shortcut.
        scope: variable scope of the unit.

    Returns:
        float32 [N, ceil(H / stride), ceil(W / stride), depth].
    """
    with tf.variable_scope(scope), tf.variable_scope('bottleneck_v1'):
        if features.shape[-1].value == depth:
            shortcut = subsample(features, stride)
        else:
            shortcut = slim.conv2d(
                features, depth, 1, stride=stride, activation_fn=None, scope='shortcut'
            )
        residual = slim.conv2d(features, bottleneck_depth, 1, scope='conv1')
        residual = conv2d_same(residual, bottleneck_depth, 3, stride, scope='conv2')
        residual = slim.conv2d(residual, depth, 1, activation_fn=None, scope='conv3')
        return tf.nn.relu(shortcut + residual)


def _run_block(features: tf.Tensor, block: Block, scope: str) -> tf.Tensor:
    with tf.variable_scope(scope):
        for unit in range(1, block.num_units + 1):
            stride = block.stride if unit == block.num_units else 1
            features = bottleneck(
                features, block.depth, block.bottleneck_depth, stride, scope=f'unit_{unit}'
            )
    return features


def resnet_v1(
    images: tf.Tensor, blocks: Sequence[Block], scope: str
) -> Tuple[tf.Tensor, Tuple[tf.Tensor, ...]]:
    """Builds the root convolution, pooling and blocks, within an arg scope of layer defaults.

    Args:
        images: float32 [N, H, W, 3], channel means subtracted.
        blocks: the residual blocks in order.
        scope: variable scope of the network.

    Returns:
        (the pooled root features, float32 [N, H/4, W/4, 64]; each block's output in order).
    """
    outputs = []
    with tf.variable_scope(scope):
        root = conv2d_same(images, 64, 7, stride=2, scope='conv1')
        root = slim.max_pool2d(root, [3, 3], stride=2, padding='SAME', scope='pool1')
        features = root
        for number, block in enumerate(blocks, start=1):
            features = _run_block(features, block, scope=f'block{number}')
            outputs.append(features)
    return root, tuple(outputs)


def resnet_backbone(
    name: str, images: tf.Tensor, weight_decay: float, is_training: bool, batch_norm_decay: float
) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Builds a ResNet without its classifier, as a backbone.

    Args:
        name: a key of BLOCKS, and the variable scope.
        images: float32 [N, H, W, 3], channel means subtracted.
        weight_decay: factor of the L2 regularizer of the convolutions' weights.
        is_training: batch norm uses the statistics of the batch and updates the moving ones.
        batch_norm_decay: decay of the moving statistics.

    Returns:
        (C2, C3, C4, C5), float32 [N, H/s, W/s, c] at strides s = 4, 8, 16, 32 with c = 64, 256,
        512, 2048 channels: the pooled root and the outputs of blocks 1, 2 and 4. As the stride is
        at the end of a block, block 3 has the same output stride as block 4.
    """
    with resnet_arg_scope(weight_decay, is_training, batch_norm_decay):
        root, (block1, block2, _, block4) = resnet_v1(images, BLOCKS[name], name)
    return root, block1, block2, block4
