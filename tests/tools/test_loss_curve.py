"""The loss curve: that a picture of both losses comes out."""

import cv2
import numpy as np

from tools.curves import Scalars
from tools.loss_curve import plot_loss


def test_picture_shows_both_curves(tmp_path):
    steps = np.arange(1, 50)
    curves = {name: Scalars(steps, scale / steps, steps)
              for name, scale in (('total_loss', 2.0), ('model_loss', 1.0))}
    path = tmp_path / 'loss.png'
    plot_loss(curves, str(path))
    image = cv2.imread(str(path))
    assert image.shape == (600, 960, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
