"""A network that needs no TensorFlow, and images with ground truth for it."""

import zipfile

import cv2
import numpy as np
import pytest

from inference.detector import prepare_image
from utils.image_io import write_image

NUMBERS = range(1, 5)


class Blots:
    """Has the steps of a Detector up to its score maps: these are soft blots, drawn by number."""

    def prepare(self, image_bgr):
        return prepare_image(image_bgr, 96)

    def score_maps(self, image_rgb):
        height, width = image_rgb.shape[0] // 4, image_rgb.shape[1] // 4
        noise = np.random.RandomState(image_rgb.shape[1]).rand(height, width).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
        score = (smooth - smooth.min()) / np.ptp(smooth)
        return np.stack([score * share for share in (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)], axis=2)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """A directory with ``images`` of several sizes and ``gt.zip``."""
    directory = tmp_path_factory.mktemp('data')
    (directory / 'images').mkdir()
    with zipfile.ZipFile(str(directory / 'gt.zip'), 'w') as archive:
        for number in NUMBERS:
            width, height = 70 + 40 * number, 90
            write_image(str(directory / 'images' / f'img_{number}.png'),
                        np.zeros((height, width, 3), np.uint8))
            archive.writestr(f'gt_img_{number}.txt', ground_truth(number, width, height))
    return directory


def ground_truth(number, width, height):
    """What the network finds at one pair of thresholds, the first box as a do-not-care region."""
    from inference.postprocess import Thresholds, find_boxes

    network = Blots()
    image_rgb, geometry = network.prepare(np.zeros((height, width, 3), np.uint8))
    boxes = find_boxes(network.score_maps(image_rgb), geometry, Thresholds(0.55, 3))
    boxes = boxes.reshape(-1, 8).tolist()
    assert len(boxes) > 1
    return ''.join(f'{",".join(map(str, box))},{"word" if place else "###"}\r\n'
                   for place, box in enumerate(boxes))
