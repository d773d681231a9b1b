"""PSENet (Wang et al., 2019): backbone, feature pyramid, fusion, and a score map per kernel."""

from typing import Any, Dict, Sequence

import tensorflow as tf
from tensorflow.contrib import slim

from nets.backbones import get_backbone
from nets.fpn import PYRAMID_DEPTH, build_feature_pyramid, fuse_feature_pyramid
from nets.layers import batch_norm_params, seeded_by_name
from nets.losses import loss
from nets.upsampled_conv import upsampled_conv
from utils.utils_tool import cfg

__all__ = ['loss', 'mean_image_subtraction', 'model']

HEAD_DEPTH = 256


def mean_image_subtraction(
    images: tf.Tensor, means: Sequence[float] = cfg.MEAN_RGB
) -> tf.Tensor:
    """Subtracts the ImageNet mean of each channel, without scaling.

    Args:
        images: float32 [N, H, W, C], 0..255.
        means: C values, in the order of the channels.

    Returns:
        float32 [N, H, W, C].

    Raises:
        ValueError: the numbers of channels and means differ.
    """
    if images.shape.ndims is None or images.shape.as_list()[3:] != [len(means)]:
        raise ValueError(f'images must be of shape [N, H, W, {len(means)}], not {images.shape}')
    return images - tf.constant(means, tf.float32, name='channel_means')


def _check_sides(images: tf.Tensor) -> None:
    for side, length in zip(('height', 'width'), images.shape.as_list()[1:3]):
        if length is not None and (length <= 0 or length % cfg.SIDE_MULTIPLE):
            raise ValueError(
                f'the {side} of the images must be a multiple of {cfg.SIDE_MULTIPLE}, not {length}'
            )


def _convolve_then_upsample(
    pyramid: Sequence[tf.Tensor], normalizer_params: Dict[str, Any]
) -> tf.Tensor:
    """Builds the first layer of the head for inference: same variables, fewer operations."""
    p2, p3, p4, p5 = pyramid
    with tf.variable_scope('Conv'):
        kernel = slim.model_variable('weights', [3, 3, 4 * PYRAMID_DEPTH, HEAD_DEPTH])
        features = upsampled_conv([p5, p4, p3, p2], kernel)
        return slim.batch_norm(
            features, activation_fn=tf.nn.relu, scope='BatchNorm', **normalizer_params
        )


def _predict_score_maps(
    pyramid: Sequence[tf.Tensor],
    weight_decay: float,
    is_training: bool,
    batch_norm_decay: float,
    upsample_last: bool,
) -> tf.Tensor:
    regularizer = slim.l2_regularizer(weight_decay)
    normalizer_params = batch_norm_params(is_training, batch_norm_decay)
    fused = None if upsample_last else fuse_feature_pyramid(pyramid)
    with tf.variable_scope('feature_results'), slim.arg_scope(
        [slim.conv2d], weights_regularizer=regularizer,
        weights_initializer=seeded_by_name(slim.xavier_initializer)
    ):
        if upsample_last:
            features = _convolve_then_upsample(pyramid, normalizer_params)
        else:
            features = slim.conv2d(
                fused,
                HEAD_DEPTH,
                3,
                normalizer_fn=slim.batch_norm,
                normalizer_params=normalizer_params,
                scope='Conv',
            )
        logits = slim.conv2d(features, cfg.NUM_KERNELS, 1, activation_fn=None, scope='Conv_1')
        return tf.sigmoid(logits, name='score_maps')


def model(
    images: tf.Tensor,
    weight_decay: float = 1e-5,
    is_training: bool = True,
    batch_norm_decay: float = 0.997,
    backbone: str = 'resnet_v1_50',
    upsample_last: bool = False,
) -> tf.Tensor:
    """Builds the network from images to score maps.

    If the height and width of the images are static, all sizes in the graph are constants.
    Otherwise the sides of fed images must be multiples of 32.

    Args:
        images: float32 [N, H, W, 3], RGB, 0..255; H and W multiples of 32.
        weight_decay: factor of the L2 regularizers, which go to ``REGULARIZATION_LOSSES``.
        is_training: batch norm uses the statistics of the batch, and adds the updates of the
            moving statistics to ``UPDATE_OPS``.
        batch_norm_decay: decay of the moving statistics of backbone and head.
        backbone: a name in ``nets.backbones.BACKBONES``.
        upsample_last: for inference only: the head convolves the levels of the pyramid before
            upsampling them. Scores differ by at most 1e-5, and a CPU needs a quarter less time.

    Returns:
        float32 [N, H/4, W/4, 6], 0..1: scores of the kernels, smallest kernel first; channel k is
        the text region shrunk by ``cfg.KERNEL_SCALES[k]``, the last one the whole region.

    Raises:
        ValueError: the static shape of the images is wrong, or upsample_last is used in training.
        PSENetError: the backbone is unknown.
    """
    if upsample_last and is_training:
        raise ValueError('upsample_last is for inference: the head would have no weight decay')
    build_backbone = get_backbone(backbone)
    images = mean_image_subtraction(images)
    _check_sides(images)
    features = build_backbone(images, weight_decay, is_training, batch_norm_decay)
    pyramid = build_feature_pyramid(features, weight_decay)
    return _predict_score_maps(
        pyramid, weight_decay, is_training, batch_norm_decay, upsample_last
    )
