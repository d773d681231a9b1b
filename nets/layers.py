"""What the backbone and the layers on top of it share: first weights, batch norm, sizes."""

import zlib
from typing import Any, Callable, Dict, List, Union

import tensorflow as tf

BATCH_NORM_EPSILON = 1e-5

# [height, width] as ints where the graph knows them, as an int32 tensor of shape (2,) where not.
SpatialSize = Union[List[int], tf.Tensor]
# (shape, dtype, partition_info) -> the op that draws a variable's first value.
Initializer = Callable[..., tf.Tensor]


def seeded_by_name(make_initializer: Callable[..., Initializer]) -> Initializer:
    """An initialiser whose draws depend on the graph's seed and the variable's name alone.

    TensorFlow would take the number of ops that the graph holds so far for the second half of the
    seed, and one seed would give other weights in a graph that begins with another input pipeline.

    Args:
        make_initializer: such as ``slim.xavier_initializer``; called with the seed by name.

    Returns:
        The initialiser, for ``weights_initializer`` of slim's layers.
    """
    def draw(shape: List[int], dtype: tf.DType = tf.float32, partition_info=None) -> tf.Tensor:
        name = tf.get_default_graph().get_name_scope()
        initializer = make_initializer(seed=zlib.crc32(name.encode('utf-8')))
        return initializer(shape, dtype, partition_info)
    return draw


def batch_norm_params(is_training: bool, decay: float) -> Dict[str, Any]:
    """Arguments of ``slim.batch_norm`` that every batch norm of the network gets.

    Args:
        is_training: normalise by the batch's statistics and add the moving statistics' updates to
            ``tf.GraphKeys.UPDATE_OPS``; otherwise normalise by the moving statistics.
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
    """Height and width of a feature map, without an op where the graph knows them.

    Accelerators that compile the graph ahead (Ascend) need resize sizes as constants.

    Args:
        features: any dtype, [N, H, W, C].

    Returns:
        ``[H, W]`` as Python ints where both are static, else an int32 tensor of shape (2,).
    """
    height_width = features.shape[1:3]
    if height_width.is_fully_defined():
        return height_width.as_list()
    return tf.shape(features)[1:3]
