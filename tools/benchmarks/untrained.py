"""A checkpoint with the weights that training starts from: TensorFlow's part of case eval."""

import os

import tensorflow as tf

from nets.model import model


def write_checkpoint(folder: str) -> None:
    """Saves the network's initial weights, always the same ones."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(0)
        model(tf.zeros([1, 32, 32, 3]), is_training=False)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, os.path.join(folder, 'model.ckpt-0'),
                              write_meta_graph=False)
