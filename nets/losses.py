"""The loss of PSENet (paper, section 3.4): masked dice of the text region and of its kernels.

``loss_terms`` is the reference's, which sums over the batch and has no hard negatives.
``hard_negative_loss_terms`` is nearer to the paper: dice of squares in each image, three hard
negatives a text pixel; and cross entropy beside it, as dice teaches nothing where there is no text.
"""

from typing import List, NamedTuple

import tensorflow as tf

from utils.utils_tool import cfg

# Weight of the whole text region's loss; the kernels' loss has the rest (paper: lambda = 0.7).
TEXT_WEIGHT = 0.7
# A pixel is predicted text from this score on; only there do the kernels count.
TEXT_THRESHOLD = 0.5
DICE_EPSILON = 1e-5
# Of the loss with hard negatives.
NEGATIVES_PER_POSITIVE = 3
NEGATIVES_WITHOUT_TEXT = 2000
CROSS_ENTROPY_WEIGHT = 0.3
_SQUARED_DICE_EPSILON = 1e-3
_LOG_EPSILON = 1e-7


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


def _kernels_and_text(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> List[List[tf.Tensor]]:
    """Splits truth and prediction into the kernels and the whole text; checks all shapes."""
    # Broadcasting would let a mask of the wrong rank through and train on nonsense.
    score_maps.shape.with_rank(4)[3:].assert_is_compatible_with([cfg.NUM_KERNELS])
    seg_maps_gt.shape.assert_is_compatible_with(score_maps.shape)
    training_mask.shape.assert_is_compatible_with(score_maps.shape[:3].concatenate([1]))
    return [tf.split(maps, [cfg.NUM_KERNELS - 1, 1], axis=-1) for maps in (seg_maps_gt, score_maps)]


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
        (kernels_gt, text_gt), (kernel_scores, text_scores) = _kernels_and_text(
            seg_maps_gt, score_maps, training_mask)
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


def hard_negative_loss_terms(
    seg_maps_gt: tf.Tensor, score_maps: tf.Tensor, training_mask: tf.Tensor
) -> LossTerms:
    """The loss of a batch with hard negatives and its two parts.

    Args:
        seg_maps_gt: float32 [N, H, W, 6], 0..1, also fractions; smallest kernel first.
        score_maps: float32 [N, H, W, 6], 0..1, the prediction in the same order.
        training_mask: float32 [N, H, W, 1], 0 at ignored text, 1 elsewhere.

    Returns:
        LossTerms of ``text``: 1 - dice of squares over text and the hardest three times as many
        other cells, the mean over images with text; ``kernels``: likewise, where text is or is
        predicted; ``total`` = 0.7 text + 0.3 kernels + 0.3 cross entropy of the text over the same
        cells, or the 2,000 hardest of an image without text.

    Raises:
        ValueError: the static shapes do not fit one another.
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
    """Dice of squares, float32 [N, C]."""
    truth, scores, cells = truth * mask, scores * mask, [1, 2]
    common = tf.reduce_sum(truth * scores, axis=cells)
    squares = tf.reduce_sum(truth ** 2, axis=cells) + tf.reduce_sum(scores ** 2, axis=cells)
    return (2 * common + _SQUARED_DICE_EPSILON) / (squares + _SQUARED_DICE_EPSILON)


def _with_hard_negatives(positives: tf.Tensor, scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Float32 [N, H, W, 1], 1 at text and at the hardest other cells of each image.

    All sizes are static, as an NPU needs them: the scores are sorted as a whole, and the one that
    comes last of those that are wanted is the threshold.
    """
    height, width = scores.shape.as_list()[1:3]
    cells = height * width
    negatives = mask * (1 - positives)
    wanted = NEGATIVES_PER_POSITIVE * tf.reduce_sum(positives, axis=[1, 2, 3])
    wanted = tf.where(tf.equal(wanted, 0.),
                      tf.fill(wanted.shape.as_list(), float(NEGATIVES_WITHOUT_TEXT)), wanted)
    wanted = tf.minimum(wanted, tf.reduce_sum(negatives, axis=[1, 2, 3]))
    # Cells that are no negatives come after every score.
    hardness = tf.where(negatives > 0, scores, -tf.ones_like(scores))
    ordered, _ = tf.nn.top_k(tf.reshape(hardness, [-1, cells]), cells)
    last = tf.one_hot(tf.to_int32(wanted) - 1, cells)
    threshold = tf.reshape(tf.reduce_sum(ordered * last, axis=1), [-1, 1, 1, 1])
    some = tf.reshape(tf.to_float(wanted > 0), [-1, 1, 1, 1])
    hard = tf.to_float(scores >= threshold) * negatives * some
    return tf.stop_gradient(positives + hard)
