"""The loss of PSENet (paper, section 3.4): masked dice of the text region and of its kernels.

``loss_terms`` is that of the reference, which sums over the batch and has no hard negatives.
``hard_negative_loss_terms`` is closer to the paper: squared dice per image, with three hard
negatives per text pixel. It adds cross entropy, as dice has no gradient in images without text.
"""

from typing import List, NamedTuple

import tensorflow as tf

from utils.utils_tool import cfg

# Weight of the text region's loss; that of the kernels' loss is the rest (paper: lambda = 0.7).
TEXT_WEIGHT = 0.7
# Minimum score of predicted text; the kernels' loss covers only predicted text.
TEXT_THRESHOLD = 0.5
DICE_EPSILON = 1e-5
# For the loss with hard negatives.
NEGATIVES_PER_POSITIVE = 3
NEGATIVES_WITHOUT_TEXT = 2000
CROSS_ENTROPY_WEIGHT = 0.3
_SQUARED_DICE_EPSILON = 1e-3
_LOG_EPSILON = 1e-7


class LossTerms(NamedTuple):
    """The loss and its terms, float32 scalars."""

    text: tf.Tensor
    kernels: tf.Tensor
    total: tf.Tensor


def dice_coefficient(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> tf.Tensor:
    """Computes the dice coefficient of each channel, 0..1, summed over the batch.

    Unlike in the paper, the denominator is not squared, as in the published training.

    Args:
        seg_maps_gt: float32 [N, H, W, C], 0 or 1.
        score_maps: float32 [N, H, W, C], 0..1.
        training_mask: float32 [N, H, W, 1], 1 where a pixel counts, else 0.

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


def _kernels_and_text(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> List[List[tf.Tensor]]:
    """Splits ground truth and prediction into kernels and text region, after checking shapes."""
    # A mask of the wrong rank would be broadcast without an error.
    score_maps.shape.with_rank(4)[3:].assert_is_compatible_with([cfg.NUM_KERNELS])
    seg_maps_gt.shape.assert_is_compatible_with(score_maps.shape)
    training_mask.shape.assert_is_compatible_with(score_maps.shape[:3].concatenate([1]))
    return [tf.split(maps, [cfg.NUM_KERNELS - 1, 1], axis=-1) for maps in (seg_maps_gt, score_maps)]


def loss_terms(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> LossTerms:
    """Computes the loss of the reference.

    Args:
        seg_maps_gt: float32 [N, H, W, 6], 0 or 1, smallest kernel first, text region last.
        score_maps: float32 [N, H, W, 6], 0..1, the prediction in the same order.
        training_mask: float32 [N, H, W, 1], 0 at ignored text, 1 elsewhere.

    Returns:
        ``text`` = 1 - dice of the last channel; ``kernels`` = 1 - mean dice of the others within
        predicted text; ``total`` = 0.7 text + 0.3 kernels.

    Raises:
        ValueError: the static shapes do not match.
    """
    with tf.name_scope('loss'):
        (kernels_gt, text_gt), (kernel_scores, text_scores) = _kernels_and_text(
            seg_maps_gt, score_maps, training_mask)
        text_dice = dice_coefficient(text_gt, text_scores, training_mask)
        # A comparison has no gradient, so predicted_text is a constant mask.
        predicted_text = tf.cast(text_scores >= TEXT_THRESHOLD, tf.float32)
        kernel_dice = dice_coefficient(kernels_gt, kernel_scores, training_mask * predicted_text)
        text = 1 - tf.squeeze(text_dice, axis=0)
        kernels = 1 - tf.reduce_mean(kernel_dice)
        return LossTerms(text, kernels, TEXT_WEIGHT * text + (1 - TEXT_WEIGHT) * kernels)


def loss(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> tf.Tensor:
    """Computes the total loss, a float32 scalar without regularization; see ``loss_terms``."""
    return loss_terms(seg_maps_gt, score_maps, training_mask).total


def hard_negative_loss_terms(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> LossTerms:
    """Computes the loss with hard negatives.

    Args:
        seg_maps_gt: float32 [N, H, W, 6], 0..1 with fractions, smallest kernel first.
        score_maps: float32 [N, H, W, 6], 0..1, the prediction in the same order.
        training_mask: float32 [N, H, W, 1], 0 at ignored text, 1 elsewhere.

    Returns:
        ``text``: 1 - squared dice over text cells and three times as many of the hardest other
        cells, averaged over images with text; ``kernels``: 1 - squared dice over true and
        predicted text, likewise; ``total`` = 0.7 text + 0.3 kernels + 0.3 cross entropy of the
        text region over the cells of ``text``, or the hardest 2,000 in an image without text.

    Raises:
        ValueError: the static shapes do not match.
    """
    with tf.name_scope('loss'):
        (kernels_gt, text_gt), (kernel_scores, text_scores) = _kernels_and_text(
            seg_maps_gt, score_maps, training_mask)
        is_text = tf.to_float(text_gt > TEXT_THRESHOLD)
        chosen = _with_hard_negatives(is_text * training_mask, text_scores, training_mask)
        predicted = tf.to_float(text_scores > TEXT_THRESHOLD)
        inside = tf.maximum(is_text, predicted) * training_mask
        has_text = tf.minimum(tf.reduce_sum(is_text * training_mask, axis=[1, 2, 3]), 1.)

        def over_images(dice: tf.Tensor) -> tf.Tensor:
            losses = (1 - tf.reduce_mean(dice, axis=1)) * has_text
            return tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(has_text), 1.)

        text = over_images(_squared_dice(text_gt, text_scores, chosen))
        kernels = over_images(_squared_dice(kernels_gt, kernel_scores, inside))
        entropy = -(text_gt * tf.log(text_scores + _LOG_EPSILON)
                    + (1 - text_gt) * tf.log(1 - text_scores + _LOG_EPSILON))
        entropy = tf.reduce_sum(entropy * chosen) / tf.maximum(tf.reduce_sum(chosen), 1.)
        return LossTerms(text, kernels, TEXT_WEIGHT * text + (1 - TEXT_WEIGHT) * kernels
                         + CROSS_ENTROPY_WEIGHT * entropy)


def _squared_dice(truth: tf.Tensor, scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Computes the squared dice of each image and channel, float32 [N, C]."""
    truth, scores, cells = truth * mask, scores * mask, [1, 2]
    common = tf.reduce_sum(truth * scores, axis=cells)
    squares = tf.reduce_sum(truth ** 2, axis=cells) + tf.reduce_sum(scores ** 2, axis=cells)
    return (2 * common + _SQUARED_DICE_EPSILON) / (squares + _SQUARED_DICE_EPSILON)


def _with_hard_negatives(positives: tf.Tensor, scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Selects text and the hardest other cells of each image: float32 [N, H, W, 1], 0 or 1.

    As an NPU needs static sizes, all scores are sorted, and the lowest score to be selected becomes
    the threshold.
    """
    height, width = scores.shape.as_list()[1:3]
    cells = height * width
    negatives = mask * (1 - positives)
    wanted = NEGATIVES_PER_POSITIVE * tf.reduce_sum(positives, axis=[1, 2, 3])
    wanted = tf.where(tf.equal(wanted, 0.),
                      tf.fill(wanted.shape.as_list(), float(NEGATIVES_WITHOUT_TEXT)), wanted)
    wanted = tf.minimum(wanted, tf.reduce_sum(negatives, axis=[1, 2, 3]))
    # Other cells sort after all negatives.
    hardness = tf.where(negatives > 0, scores, -tf.ones_like(scores))
    ordered, _ = tf.nn.top_k(tf.reshape(hardness, [-1, cells]), cells)
    last = tf.one_hot(tf.to_int32(wanted) - 1, cells)
    threshold = tf.reshape(tf.reduce_sum(ordered * last, axis=1), [-1, 1, 1, 1])
    some = tf.reshape(tf.to_float(wanted > 0), [-1, 1, 1, 1])
    hard = tf.to_float(scores >= threshold) * negatives * some
    return tf.stop_gradient(positives + hard)
