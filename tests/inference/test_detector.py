"""The detector against the reference's network, with weights that come from a checkpoint."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from inference.detector import Detector
from inference.postprocess import detect, to_original
from inference.preprocess import prepare_image
from nets.model import model
from tests.reference_rule import inputs_by_rule, load_rule_weights
from utils.errors import PSENetError


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Prefix of a checkpoint with the weights by rule, trainable ones as moving averages alone."""
    folder = tmp_path_factory.mktemp('checkpoint')
    with tf.Graph().as_default():
        model(tf.placeholder(tf.float32, [1, 32, 32, 3]), is_training=False)
        trainable = set(tf.trainable_variables())
        names = {v.op.name + ('/ExponentialMovingAverage' if v in trainable else ''): v
                 for v in tf.global_variables()}
        with tf.Session() as session:
            load_rule_weights(session, tf.global_variables())
            prefix = tf.train.Saver(names).save(session, str(folder / 'model.ckpt-1'),
                                                write_meta_graph=False)
    yield prefix
    shutil.rmtree(str(folder))  # pytest keeps folders of earlier runs, and this one takes 110 MB


@pytest.fixture(scope='module')
def detector(checkpoint):
    """A detector whose thresholds let random weights find something."""
    with Detector(checkpoint, seg_map_thresh=0.5, min_area_thresh=1, max_side_len=96) as found:
        yield found


def test_score_maps_equal_the_reference(detector, data_dir):
    data = np.load(str(data_dir / 'reference_graph.npz'))
    seed, n, height, width = data['meta']
    images = inputs_by_rule(np.random.RandomState(seed), n, height, width).images.astype(np.uint8)
    for image, expected in zip(images, data['infer']):
        score_maps = detector.score_maps(image)
        assert score_maps.dtype == np.float32
        np.testing.assert_allclose(score_maps, expected, atol=1e-4)


def test_detect_puts_the_steps_together(detector):
    image = np.random.RandomState(3).randint(0, 256, (70, 200, 3)).astype(np.uint8)
    image.setflags(write=False)
    found = detector.detect(image)
    assert found.net_seconds > 0
    assert found.post_seconds > 0
    assert found.boxes.dtype == np.int32
    image_rgb, ratios = prepare_image(image, 96)
    assert image_rgb.shape == (64, 96, 3)
    quads = detect(detector.score_maps(image_rgb), (96, 64), 0.5, 1)
    assert len(found.boxes)
    np.testing.assert_array_equal(found.boxes, to_original(quads, ratios, (200, 70)))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(PSENetError, match='no-such-checkpoint'):
        Detector(str(tmp_path / 'no-such-checkpoint'))
