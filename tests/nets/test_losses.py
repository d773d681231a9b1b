"""The loss by hand on a few pixels, and against its equations in float64."""

import numpy as np
import pytest
import tensorflow as tf

from nets.losses import dice_coefficient, hard_negative_loss_terms, loss, loss_terms
from utils.utils_tool import cfg


@pytest.fixture
def session():
    """An empty graph and a session of it."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def _row(*pixels):
    """One image, one row: each pixel a list of channels."""
    return tf.constant([[pixels]], tf.float32)


def _same(value, num_pixels=2):
    """One image, one row of pixels whose six channels all have one value."""
    return tf.fill([1, 1, num_pixels, cfg.NUM_KERNELS], float(value))


def test_dice_by_hand(session):
    gt = _row([1], [0], [1], [1])
    scores = _row([0.5], [0.5], [1], [0])
    mask = _row([1], [1], [1], [0])
    dice = session.run(dice_coefficient(gt, scores, mask))
    np.testing.assert_allclose(dice, [2 * 1.5 / (2 + 2 + 1e-5)], rtol=1e-6)


def test_dice_of_each_channel_is_its_own(session):
    gt = _row([1, 0, 1], [1, 1, 1])
    scores = _row([1, 1, 0.25], [1, 0, 0.25])
    dice = session.run(dice_coefficient(gt, scores, tf.ones([1, 1, 2, 1])))
    np.testing.assert_allclose(dice, [1, 0, 1 / 2.5], rtol=1e-5)


def test_dice_sums_run_over_the_batch(session):
    gt = tf.ones([2, 1, 1, 1])
    scores = tf.reshape([1.0, 0.0], [2, 1, 1, 1])
    dice = session.run(dice_coefficient(gt, scores, tf.ones([2, 1, 1, 1])))
    # The mean of the images' own values would be 1/2.
    np.testing.assert_allclose(dice, [2 / 3], rtol=1e-5)


def test_perfect_prediction_has_no_loss(session):
    terms = session.run(loss_terms(_same(1), _same(1), tf.ones([1, 1, 2, 1])))
    np.testing.assert_allclose(terms, [0, 0, 0], atol=1e-5)


def test_kernels_count_only_where_text_is_predicted(session):
    scores = _row([1, 1, 1, 1, 1, 0.5], [0, 0, 0, 0, 0, 0.49])
    terms = session.run(loss_terms(_same(1), scores, tf.ones([1, 1, 2, 1])))
    text = 1 - 2 * 0.99 / (2 + 0.99 + 1e-5)
    np.testing.assert_allclose(terms, [text, 0, 0.7 * text], rtol=1e-5, atol=1e-5)


def test_no_predicted_text_is_the_worst_loss_of_the_kernels(session):
    scores = _row([1, 1, 1, 1, 1, 0.4])
    terms = session.run(loss_terms(_same(1, 1), scores, tf.ones([1, 1, 1, 1])))
    assert terms.kernels == 1


def test_kernels_loss_is_the_mean_over_five_kernels(session):
    gt = _row([1, 1, 1, 1, 1, 1])
    scores = _row([1, 0, 0, 0, 0, 1])
    terms = session.run(loss_terms(gt, scores, tf.ones([1, 1, 1, 1])))
    np.testing.assert_allclose(terms, [0, 0.8, 0.24], rtol=1e-4, atol=1e-5)


def test_masked_pixels_do_not_count(session):
    gt, scores = _same(1), _row([1] * 6, [0] * 6)
    terms = session.run(loss_terms(gt, scores, _row([1], [0])))
    np.testing.assert_allclose(terms, [0, 0, 0], atol=1e-5)


def test_no_gradient_flows_through_the_gate(session):
    scores = _row([0.6, 0.7, 0.8, 0.9, 0.5, 0.6], [0.2, 0.1, 0.3, 0.4, 0.2, 0.5])
    terms = loss_terms(_same(1), scores, tf.ones([1, 1, 2, 1]))
    gradient = session.run(tf.gradients(terms.kernels, scores)[0])
    np.testing.assert_array_equal(gradient[..., 5], 0)
    assert (gradient[..., :5] < 0).all()


def test_a_batch_that_is_all_masked_has_a_finite_loss_and_no_gradient(session):
    scores = _same(0.7)
    terms = loss_terms(_same(1), scores, tf.zeros([1, 1, 2, 1]))
    values, gradient = session.run([terms, tf.gradients(terms.total, scores)[0]])
    np.testing.assert_allclose(values, [1, 1, 1])
    np.testing.assert_array_equal(gradient, 0)


def test_loss_follows_its_equations_on_large_maps(session):
    rng = np.random.RandomState(0)
    shape = (4, 96, 96, cfg.NUM_KERNELS)
    gt = (rng.rand(*shape) < 0.3).astype(np.float32)
    scores = rng.rand(*shape).astype(np.float32)
    mask = (rng.rand(*shape[:3], 1) < 0.9).astype(np.float32)
    g, s, m = (array.astype(np.float64) for array in (gt, scores, mask[..., 0]))

    def dice(k, gate):
        overlap = (g[..., k] * s[..., k] * m * gate).sum()
        return 2 * overlap / ((g[..., k] * m * gate).sum() + (s[..., k] * m * gate).sum() + 1e-5)

    text = 1 - dice(5, 1)
    kernels = 1 - np.mean([dice(k, s[..., 5] >= 0.5) for k in range(5)])
    terms = session.run(loss_terms(*(tf.constant(array) for array in (gt, scores, mask))))
    np.testing.assert_allclose(terms, [text, kernels, 0.7 * text + 0.3 * kernels], rtol=1e-5)


def test_loss_is_the_total_of_its_terms(session):
    arrays = _same(1), _same(0.7), tf.ones([1, 1, 2, 1])
    total, terms = session.run([loss(*arrays), loss_terms(*arrays)])
    assert total == terms.total


@pytest.mark.parametrize(
    ('gt_shape', 'scores_shape', 'mask_shape'),
    [
        ([1, 8, 8, 5], [1, 8, 8, 6], [1, 8, 8, 1]),
        ([1, 8, 8, 5], [1, 8, 8, 5], [1, 8, 8, 1]),
        ([1, 8, 1, 6], [1, 8, 8, 6], [1, 8, 8, 1]),
        ([1, 8, 8, 6], [1, 8, 8, 6], [1, 8, 8, 6]),
        ([1, 8, 8, 6], [1, 8, 8, 6], [1, 8, 8]),
        ([8, 8, 6], [8, 8, 6], [8, 8, 1]),
    ],
)
def test_shapes_that_would_only_broadcast_are_refused(session, gt_shape, scores_shape, mask_shape):
    with pytest.raises(ValueError, match=r'[Ss]hape'):
        loss_terms(tf.zeros(gt_shape), tf.zeros(scores_shape), tf.zeros(mask_shape))


def expected_with_hard_negatives(gt, scores, mask):
    """The equations, image by image, in float64."""
    gt, scores, mask = (np.asarray(value, np.float64) for value in (gt, scores, mask))
    text_losses, kernel_losses, entropies, chosen_cells = [], [], 0.0, 0
    for truth, score, seen in zip(gt, scores, mask[..., 0] > 0):
        is_text = (truth[..., -1] > 0.5) & seen
        others = (truth[..., -1] <= 0.5) & seen
        count = min(3 * is_text.sum() or 2000, others.sum())
        hard = np.zeros_like(seen)
        if count:
            hard = others & (score[..., -1] >= np.sort(score[..., -1][others])[-count])
        chosen = is_text | hard
        inside = ((truth[..., -1] > 0.5) | (score[..., -1] > 0.5)) & seen

        def dice(channel, cells, truth=truth, score=score):
            t, p = truth[..., channel][cells], score[..., channel][cells]
            return (2 * (t * p).sum() + 1e-3) / ((t * t).sum() + (p * p).sum() + 1e-3)

        t, p = truth[..., -1][chosen], score[..., -1][chosen]
        entropies -= (t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        chosen_cells += chosen.sum()
        if is_text.any():
            text_losses.append(1 - dice(-1, chosen))
            kernel_losses.append(1 - np.mean([dice(k, inside) for k in range(cfg.NUM_KERNELS - 1)]))
    text, kernels = (np.mean(losses or [0]) for losses in (text_losses, kernel_losses))
    return text, kernels, 0.7 * text + 0.3 * kernels + 0.3 * entropies / max(chosen_cells, 1)


@pytest.mark.parametrize('texts', [(0.1, 0.2), (0.0, 0.2), (0.0, 0.0), (0.6, 0.0)])
def test_hard_negatives_by_their_equations(session, texts):
    rng = np.random.RandomState(3)
    gt = np.stack([np.sort(rng.rand(9, 8, 6) * (rng.rand(9, 8, 1) < share), axis=2)
                   for share in texts])
    scores = rng.uniform(0.01, 0.99, gt.shape)
    mask = (rng.rand(2, 9, 8, 1) < 0.8).astype(float)
    terms = session.run(hard_negative_loss_terms(*(
        tf.constant(value, tf.float32) for value in (gt, scores, mask))))
    np.testing.assert_allclose(terms, expected_with_hard_negatives(gt, scores, mask), rtol=1e-4)


def test_an_image_without_text_or_cells_is_no_nan_and_has_a_gradient(session):
    scores = tf.fill([2, 4, 4, cfg.NUM_KERNELS], 0.3)
    mask = tf.concat([tf.zeros([1, 4, 4, 1]), tf.ones([1, 4, 4, 1])], axis=0)
    terms = hard_negative_loss_terms(tf.zeros(scores.shape), scores, mask)
    values, gradient = session.run([terms, tf.gradients(terms.total, scores)[0]])
    np.testing.assert_allclose(values, [0, 0, -0.3 * np.log(0.7)], rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert (gradient[0] == 0).all()
    assert (gradient[1, ..., -1] > 0).all()
