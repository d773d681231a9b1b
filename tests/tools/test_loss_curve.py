"""The loss curve: what is read from event files, how it is smoothed, that a picture comes out."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tools import loss_curve
from utils.errors import PSENetError


def _write_events(folder, values, tags=loss_curve.TAGS):
    writer = tf.compat.v1.summary.FileWriter(str(folder))
    for step, value in values:
        summary = tf.compat.v1.Summary()
        for tag in tags:
            summary.value.add(tag=tag, simple_value=value)
        writer.add_summary(summary, step)
    writer.close()


def test_reads_steps_and_values(tmp_path):
    _write_events(tmp_path, [(1, 0.5), (6, 0.25)])
    curves = loss_curve.read_scalars(str(tmp_path))
    assert set(curves) == {'total_loss', 'model_loss'}
    np.testing.assert_array_equal(curves['model_loss'].steps, [1, 6])
    np.testing.assert_array_equal(curves['model_loss'].values, [0.5, 0.25])


@pytest.mark.parametrize('tags', [(), ('accuracy',)])
def test_events_without_losses_are_refused(tmp_path, tags):
    _write_events(tmp_path, [(1, 0.5)], tags)
    with pytest.raises(PSENetError, match='no TensorBoard events'):
        loss_curve.read_scalars(str(tmp_path))


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(PSENetError, match='no TensorBoard events'):
        loss_curve.read_scalars(str(tmp_path / 'absent'))


def test_smoothing_is_exact_on_a_small_case():
    # Weights 1 : 2 after the division by their sum.
    np.testing.assert_allclose(loss_curve.smooth(np.array([3.0, 0.0]), weight=0.5), [3.0, 1.0])


def test_smoothing_keeps_a_constant():
    np.testing.assert_allclose(loss_curve.smooth(np.full(20, 0.7)), 0.7)


def test_picture_shows_both_curves(tmp_path):
    steps = np.arange(1, 50)
    curves = {name: loss_curve.Scalars(steps, scale / steps)
              for name, scale in (('total_loss', 2.0), ('model_loss', 1.0))}
    path = tmp_path / 'loss.png'
    loss_curve.plot_loss(curves, str(path))
    image = cv2.imread(str(path))
    assert image.shape == (600, 960, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
