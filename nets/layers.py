"""What the backbone and the layers on top of it share: batch-norm settings and spatial sizes."""

from typing import Any, Dict, List, Union

import tensorflow as tf

BATCH_NORM_EPSILON = 1e-5

# [height, width] as ints where the graph knows them, as an int32 tensor of shape (2,) where not.
SpatialSize = Union[List[int], tf.Tensor]


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
