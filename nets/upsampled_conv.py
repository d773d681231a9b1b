"""A 3x3 convolution of upsampled feature maps, computed before upsampling.

Bilinear upsampling is linear. Each tap of the kernel can therefore be applied to the small map, and
the results upsampled, shifted by the tap's offset and added. Along one axis, the last three steps
are one multiplication by a small matrix. For maps upsampled by 2, 4 and 8 this takes a quarter of
the operations.
"""

from typing import Sequence

import tensorflow as tf

_TAPS = 3


def upsampled_conv(levels: Sequence[tf.Tensor], kernel: tf.Tensor) -> tf.Tensor:
    """Convolves maps as if they were upsampled to the size of the last one and concatenated.

    Equals, up to rounding, ``tf.nn.conv2d`` with padding SAME of ``fuse_feature_pyramid``.

    Args:
        levels: float32 [N, h, w, C] each, of any sizes and the same C.
        kernel: float32 [3, 3, C * len(levels), D], input channels in the order of the levels.

    Returns:
        float32 [N, H, W, D], with H and W of the last level.
    """
    kernels = tf.split(kernel, len(levels), axis=2)
    height, width = tf.unstack(tf.shape(levels[-1])[1:3])
    depth = kernel.shape[-1].value
    columns = [_convolve_rows(level, part, width)
               for level, part in zip(levels[:-1], kernels[:-1])]
    enlarge = tf.concat([_enlarging(tf.shape(level)[1], height) for level in levels[:-1]], axis=1)
    enlarged = tf.matmul(enlarge, tf.concat(columns, axis=1))
    return (tf.reshape(enlarged, [-1, height, width, depth])
            + tf.nn.conv2d(levels[-1], kernels[-1], 1, 'SAME'))


def _convolve_rows(level: tf.Tensor, kernel: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Applies each kernel row to the rows of a map and upsamples them: [N, h * 3, width * D]."""
    channels, depth = kernel.shape.as_list()[2:]
    height, narrow = tf.unstack(tf.shape(level)[1:3])
    enlarge = _enlarging(narrow, width)
    rows = []
    for row in tf.unstack(kernel):
        taps = tf.reshape(tf.transpose(row, [1, 0, 2]), [1, 1, channels, _TAPS * depth])
        tapped = tf.nn.conv2d(level, taps, 1, 'SAME')
        rows.append(tf.matmul(enlarge, tf.reshape(tapped, [-1, narrow * _TAPS, depth])))
    stacked = tf.stack(rows, axis=1)  # [N x h, 3, width, D]
    return tf.reshape(stacked, [-1, height * _TAPS, width * depth])


def _enlarging(source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Builds the matrix that upsamples, shifts and adds three taps: float32 [target, source * 3].

    The interpolation is that of ``tf.image.resize_bilinear``, with clamping after the last pixel.
    Outside the border the convolution sees zeros, as with padding SAME.
    """
    # resize_bilinear of unit vectors gives other values after conversion to ONNX.
    count, last = tf.to_float(source), tf.to_float(source - 1)
    places = tf.to_float(tf.range(target)) * (count / tf.to_float(target))
    distances = tf.abs(tf.minimum(places, last)[:, tf.newaxis] - tf.to_float(tf.range(source)))
    padded = tf.pad(tf.nn.relu(1 - distances), [[1, 1], [0, 0]])
    taps = tf.stack([padded[:-2], padded[1:-1], padded[2:]], axis=2)
    return tf.reshape(taps, [target, source * _TAPS])
