"""TensorFlow's part of the cases: a training step without the network, and a fresh checkpoint."""

import os
import time
from typing import Callable, List, NamedTuple

import numpy as np
import tensorflow as tf

from nets.model import model
from training.checkpoints import AVERAGE_SUFFIX
from training.config import TrainConfig
from training.devices.gpu import GpuDevice
from training.graph import Inputs, input_specs

_NUM_SCALARS = 6


class StandIn(NamedTuple):
    """The same step twice: with fed inputs, and with inputs that are on the device."""

    fed: Callable[[Inputs], List]       # takes arrays
    there: Callable[[], List]
    close: Callable[[], None]


def build_stand_in(config: TrainConfig, seconds: float) -> StandIn:
    """Builds the steps and starts a session.

    Args:
        config: sizes of the inputs.
        seconds: simulated computing time of the device.

    Returns:
        The steps, each of which returns the fetched values.
    """
    specs = input_specs(config, GpuDevice(''))
    with tf.Graph().as_default():
        placeholders = Inputs(*(tf.placeholder(spec.dtype, spec.shape) for spec in specs))
        variables = Inputs(*(tf.Variable(tf.zeros(spec.shape, spec.dtype)) for spec in specs))
        fed, there = (_step(inputs, seconds) for inputs in (placeholders, variables))
        session = tf.Session()
        session.run(tf.global_variables_initializer())
    return StandIn(lambda arrays: session.run(fed, dict(zip(placeholders, arrays))),
                   lambda: session.run(there), session.close)


def _step(inputs: Inputs, seconds: float) -> List[tf.Tensor]:
    def compute(value: np.float32) -> np.float32:
        time.sleep(seconds)
        return value
    loss = tf.py_func(compute, [tf.add_n([tf.to_float(each[0, 0, 0, 0]) for each in inputs])],
                      tf.float32)
    score_maps = tf.to_float(inputs.seg_maps[0]) + loss
    return [loss + index for index in range(_NUM_SCALARS)] + [score_maps]


def write_checkpoint(directory: str) -> str:
    """Saves the network's initial weights, from a fixed seed, as moving averages.

    Args:
        directory: for ``model.ckpt-0``, 110 MB.

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
        return tf.train.Saver(names).save(session, os.path.join(directory, 'model.ckpt-0'),
                                          write_meta_graph=False)
