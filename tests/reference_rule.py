"""Weights and inputs of the reference fixtures, drawn by rule so that no weights need storing.

The rule: a variable's values depend on its name and shape alone, an input's on the seed alone.
"""

import json
import pathlib
import zlib
from typing import Iterable, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from nets.model import model
from utils.utils_tool import cfg

DATA = pathlib.Path(__file__).resolve().parent / 'data'
EMA_SUFFIX = '/ExponentialMovingAverage'
TEXT_SHARE = 0.4
UNMASKED_SHARE = 0.9


class Inputs(NamedTuple):
    """One batch: images [n, h, w, 3], seg_maps [n, h/4, w/4, 6], training_mask [n, h/4, w/4, 1]."""

    images: np.ndarray
    seg_maps: np.ndarray
    training_mask: np.ndarray


def weight_by_rule(name: str, shape: Sequence[int]) -> np.ndarray:
    """Draws the values of a variable.

    Args:
        name: the variable's name without ``:0``.
        shape: its shape.

    Returns:
        float32 array of that shape.

    Raises:
        ValueError: the rule does not know this kind of variable.
    """
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    kind = name.rsplit('/', 1)[-1]
    if kind == 'weights':
        values = z * np.sqrt(2 / np.prod(shape[:-1]))
    elif kind == 'gamma':
        values = (0.2 if '/conv3/' in name else 1) * (1 + 0.1 * z)
    elif kind in ('beta', 'biases', 'moving_mean'):
        values = 0.1 * z
    elif kind == 'moving_variance':
        values = (1e4 if name.startswith('feature_results') else 1) * (1 + 0.1 * np.abs(z))
    else:
        raise ValueError(f'no rule for a variable named {name}')
    return values.astype(np.float32)


def inputs_by_rule(rng: np.random.RandomState, n: int, h: int, w: int) -> Inputs:
    """Draws the next batch from ``rng``, which moves on.

    Args:
        rng: the fixture's stream; one fixture draws all its batches from one stream.
        n: images in the batch.
        h: height of the images in pixels, a multiple of 4.
        w: width of the images in pixels, a multiple of 4.

    Returns:
        The batch, all float32; the images are 0..255, the maps and the mask 0 or 1.
    """
    map_height, map_width = h // cfg.STRIDE, w // cfg.STRIDE
    images = rng.randint(0, 256, (n, h, w, 3))
    seg_maps = rng.rand(n, map_height, map_width, cfg.NUM_KERNELS) < TEXT_SHARE
    training_mask = rng.rand(n, map_height, map_width, 1) < UNMASKED_SHARE
    return Inputs(*(array.astype(np.float32) for array in (images, seg_maps, training_mask)))


def load_rule_weights(session: tf.compat.v1.Session, variables: Iterable[tf.Variable]) -> None:
    """Sets variables to their values by the rule, without adding an op to the graph.

    Args:
        session: the session that holds them.
        variables: variables whose names the rule knows; a moving average gets its variable's value.
    """
    initializers, feeds = [], {}
    for variable in variables:
        name = variable.op.name
        if name.endswith(EMA_SUFFIX):
            name = name[: -len(EMA_SUFFIX)]
        initializers.append(variable.initializer)
        feeds[variable.initializer.inputs[1]] = weight_by_rule(name, variable.shape.as_list())
    session.run(initializers, feeds)


def write_rule_checkpoint(directory: str) -> str:
    """Writes a checkpoint with the weights by rule, trainable ones as moving averages alone.

    Args:
        directory: gets ``model.ckpt-1``, 110 MB.

    Returns:
        The checkpoint's prefix.
    """
    with tf.Graph().as_default():
        model(tf.placeholder(tf.float32, [1, 32, 32, 3]), is_training=False)
        trainable = set(tf.trainable_variables())
        names = {v.op.name + (EMA_SUFFIX if v in trainable else ''): v
                 for v in tf.global_variables()}
        with tf.Session() as session:
            load_rule_weights(session, tf.global_variables())
            return tf.train.Saver(names).save(session, f'{directory}/model.ckpt-1',
                                              write_meta_graph=False)


def reference_variables() -> List[dict]:
    """Reads ``name``, ``shape`` and ``trainable`` of the reference's variables, in their order."""
    return json.loads((DATA / 'reference_variables.json').read_text())
