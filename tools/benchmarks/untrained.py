"""A checkpoint with the weights that training starts from: TensorFlow's part of two cases."""

import os

import tensorflow as tf

from nets.model import model
from training.checkpoints import AVERAGE_SUFFIX


def write_checkpoint(folder: str) -> str:
    """Saves the network's initial weights, always the same ones, as moving averages.

    Args:
        folder: gets ``model.ckpt-0``, 110 MB.

    Returns:
        The checkpoint's prefix.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(0)
        model(tf.zeros([1, 32, 32, 3]), is_training=False)
        session.run(tf.global_variables_initializer())
        trainable = set(tf.trainable_variables())
        names = {variable.op.name + (AVERAGE_SUFFIX if variable in trainable else ''): variable
                 for variable in tf.global_variables()}
        return tf.train.Saver(names).save(session, os.path.join(folder, 'model.ckpt-0'),
                                          write_meta_graph=False)
