"""A checkpoint with the reference's weights, for the tests that run the network."""

import shutil

import pytest
import tensorflow as tf

from nets.model import model
from tests.reference_rule import load_rule_weights


@pytest.fixture(scope='package')
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
