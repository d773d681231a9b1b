"""The networks that the feature pyramid can stand on.

A backbone is a function ``(images, weight_decay, is_training, batch_norm_decay)`` that returns its
features (C2, C3, C4, C5), float32 [N, H/s, W/s, c] at strides s = 4, 8, 16, 32 with any number of
channels c each. A new one is a file with that function and an entry in BACKBONES.
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
    """Looks a backbone up by its name.

    Args:
        name: a key of BACKBONES; it is also the variable scope that the weights live in.

    Returns:
        The backbone function; the module's docstring has its contract.

    Raises:
        PSENetError: there is no such backbone; the message names those that there are.
    """
    if name not in BACKBONES:
        known = ', '.join(sorted(BACKBONES))
        raise PSENetError(f'unknown backbone {name!r}, choose one of: {known}')
    return BACKBONES[name]
