"""Shared by the backbone and the layers on top: initializers, batch norm, sizes."""

import zlib
from typing import Any, Callable, Dict, List, Union

import tensorflow as tf

BATCH_NORM_EPSILON = 1e-5

# [height, width] as ints if static, else as an int32 tensor of shape (2,).
SpatialSize = Union[List[int], tf.Tensor]
# (shape, dtype, partition_info) -> the initial value of a variable.
Initializer = Callable[..., tf.Tensor]


def seeded_by_name(make_initializer: Callable[..., Initializer]) -> Initializer:
    """Makes an initializer that depends only on the graph's seed and the variable's name.

    TensorFlow derives the second half of the seed from the number of ops in the graph, so that the
    same seed would give other weights with another input pipeline.

    Args:
        make_initializer: such as ``slim.xavier_initializer``; called with the keyword ``seed``.

    Returns:
        The initializer, for ``weights_initializer`` of slim's layers.
    """
    def draw(shape: List[int], dtype: tf.DType = tf.float32, partition_info=None) -> tf.Tensor:
        name = tf.get_default_graph().get_name_scope()
        initializer = make_initializer(seed=zlib.crc32(name.encode('utf-8')))
        return initializer(shape, dtype, partition_info)
    return draw


def batch_norm_params(is_training: bool, decay: float) -> Dict[str, Any]:
    """Returns the arguments of ``slim.batch_norm`` for all batch norms of the network.

    Args:
        is_training: normalize by the statistics of the batch, and add the updates of the moving
            statistics to ``tf.GraphKeys.UPDATE_OPS``; otherwise normalize by the latter.
        decay: decay of the moving statistics, 0..1.

    Returns:
        Keyword arguments, for ``normalizer_params`` or an arg scope.
    """
    return {
        'is_training': is_training,
        'decay': decay,
        'epsilon': BATCH_NORM_EPSILON,
        'scale': True,
        'updates_collections': tf.GraphKeys.UPDATE_OPS,
    }


def spatial_size(features: tf.Tensor) -> SpatialSize:
    """Returns the height and width of a feature map, as constants if they are static.

    Accelerators that compile the graph in advance (Ascend) need constant sizes for resizing.

    Args:
        features: any dtype, [N, H, W, C].

    Returns:
        ``[H, W]`` as Python ints if both are static, else an int32 tensor of shape (2,).
    """
    height_width = features.shape[1:3]
    if height_width.is_fully_defined():
        return height_width.as_list()
    return tf.shape(features)[1:3]
