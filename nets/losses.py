"""The loss of PSENet (paper, section 3.4): masked dice of the text region and of its kernels."""

from typing import NamedTuple

import tensorflow as tf

from utils.utils_tool import cfg

# Weight of the whole text region's loss; the kernels' loss has the rest (paper: lambda = 0.7).
TEXT_WEIGHT = 0.7
# A pixel is predicted text from this score on; only there do the kernels count.
TEXT_THRESHOLD = 0.5
DICE_EPSILON = 1e-5


class LossTerms(NamedTuple):
    """The loss and what it is made of, each a float32 scalar."""

    text: tf.Tensor
    kernels: tf.Tensor
    total: tf.Tensor


def dice_coefficient(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> tf.Tensor:
    """Overlap of prediction and truth, 0..1, one value a channel; sums run over the batch.

    The prediction is not squared in the denominator, unlike in the paper: the published weights
    were trained so.

    Args:
        seg_maps_gt: float32 [N, H, W, C], 0 or 1.
        score_maps: float32 [N, H, W, C], 0..1.
        training_mask: float32 [N, H, W, 1], 1 where a pixel counts, 0 where not.

    Returns:
        float32 [C].
    """
    masked_gt = seg_maps_gt * training_mask
    masked_scores = score_maps * training_mask
    batch_axes = [0, 1, 2]
    intersection = tf.reduce_sum(masked_gt * score_maps, axis=batch_axes)
    union = tf.reduce_sum(masked_gt, axis=batch_axes)
    union += tf.reduce_sum(masked_scores, axis=batch_axes)
    return 2 * intersection / (union + DICE_EPSILON)


def _check_shapes(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> None:
    # Broadcasting would let a mask of the wrong rank through and train on nonsense.
    score_maps.shape.with_rank(4)[3:].assert_is_compatible_with([cfg.NUM_KERNELS])
    seg_maps_gt.shape.assert_is_compatible_with(score_maps.shape)
    training_mask.shape.assert_is_compatible_with(score_maps.shape[:3].concatenate([1]))


def loss_terms(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> LossTerms:
    """The loss of a batch with its two parts.

    Args:
        seg_maps_gt: float32 [N, H, W, 6], 0 or 1, smallest kernel first, whole text region last.
        score_maps: float32 [N, H, W, 6], 0..1, the prediction in the same order.
        training_mask: float32 [N, H, W, 1], 0 at ignored text, 1 elsewhere.

    Returns:
        LossTerms of ``text`` = 1 - dice of the last channel; ``kernels`` = 1 - mean dice of the
        others where the text region is predicted; ``total`` = 0.7 text + 0.3 kernels.

    Raises:
        ValueError: the static shapes do not fit one another.
    """
    with tf.name_scope('loss'):
        _check_shapes(seg_maps_gt, score_maps, training_mask)
        kernels_then_text = [cfg.NUM_KERNELS - 1, 1]
        kernels_gt, text_gt = tf.split(seg_maps_gt, kernels_then_text, axis=-1)
        kernel_scores, text_scores = tf.split(score_maps, kernels_then_text, axis=-1)
        text_dice = dice_coefficient(text_gt, text_scores, training_mask)
        # A comparison has no gradient: where text is predicted is a constant for the kernels' loss.
        predicted_text = tf.cast(text_scores >= TEXT_THRESHOLD, tf.float32)
        kernel_dice = dice_coefficient(kernels_gt, kernel_scores, training_mask * predicted_text)
        text = 1 - tf.squeeze(text_dice, axis=0)
        kernels = 1 - tf.reduce_mean(kernel_dice)
        return LossTerms(text, kernels, TEXT_WEIGHT * text + (1 - TEXT_WEIGHT) * kernels)


def loss(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> tf.Tensor:
    """The loss of a batch, a float32 scalar, without regularisers; see ``loss_terms``."""
    return loss_terms(seg_maps_gt, score_maps, training_mask).total
