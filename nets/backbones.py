"""Backbones of the feature pyramid.

A backbone is a function ``(images, weight_decay, is_training, batch_norm_decay)`` that returns the
features (C2, C3, C4, C5), float32 [N, H/s, W/s, c] at strides s = 4, 8, 16, 32, each with any
number of channels c. To add one, write such a function and add it to BACKBONES.
"""

import functools
from typing import Callable, Dict, Tuple

import tensorflow as tf

from nets.resnet.resnet_v1 import BLOCKS, resnet_backbone
from utils.errors import PSENetError

Backbone = Callable[
    [tf.Tensor, float, bool, float], Tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
]

BACKBONES: Dict[str, Backbone] = {
    name: functools.partial(resnet_backbone, name) for name in BLOCKS
}


def get_backbone(name: str) -> Backbone:
    """Looks up a backbone by name.

    Args:
        name: a key of BACKBONES, and the variable scope of the weights.

    Returns:
        The backbone function, as described in the module's docstring.

    Raises:
        PSENetError: the backbone is unknown; the message lists the known ones.
    """
    if name not in BACKBONES:
        known = ', '.join(sorted(BACKBONES))
        raise PSENetError(f'unknown backbone {name!r}, choose one of: {known}')
    return BACKBONES[name]
