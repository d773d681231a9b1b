"""Scaling a loss, and applying an update only when the float status is clean; NPU.md, section 6."""

from typing import Callable

import tensorflow as tf
from npu_bridge.hccl import hccl_ops

from fake_npu import float_status
from fake_npu.environment import demand_job


def compute_scaled(optimizer: tf.train.Optimizer, manager, loss, *args, **kwargs):
    """Gradients of the loss, multiplied by the scale before and divided by it after.

    Args:
        optimizer: computes the gradients.
        manager: gives the scale; None for no scaling.
        loss: scalar tensor, or a function that returns one.
        *args: further arguments of ``Optimizer.compute_gradients``.
        **kwargs: the same.

    Returns:
        Pairs of gradient and variable; None gradients stay None.
    """
    if manager is None:
        return optimizer.compute_gradients(loss, *args, **kwargs)
    loss = loss() if callable(loss) else loss
    scale = manager.get_loss_scale()
    pairs = optimizer.compute_gradients(loss * tf.cast(scale, loss.dtype), *args, **kwargs)
    inverse = tf.reciprocal(scale)
    return [(gradient if gradient is None else _unscale(gradient, inverse), variable)
            for gradient, variable in pairs]


def _unscale(gradient, inverse: tf.Tensor):
    factor = tf.cast(inverse, gradient.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(float_status.saturate(gradient.values) * factor,
                                gradient.indices, gradient.dense_shape)
    return float_status.saturate(gradient) * factor


def apply_scaled(update: Callable[[], tf.Operation], manager, pairs, is_distributed: bool
                 ) -> tf.Operation:
    """Applies the gradients when nothing overflowed, then lets the manager adjust the scale.

    Args:
        update: builds the inner optimizer's update, which increments global_step.
        manager: says whether to look at the status, and holds the scale; None to apply always.
        pairs: the gradients of the update and their variables.
        is_distributed: whether an overflow on any rank counts.

    Returns:
        The op of the whole step.
    """
    if manager is None or not manager.checks_overflow:
        return update()
    status = float_status.read_after([gradient for gradient, _ in pairs if gradient is not None])
    if is_distributed:
        demand_job()
        status = hccl_ops.allreduce(status, 'sum')
    clean = tf.equal(tf.reduce_sum(status), 0.0)
    return tf.group(tf.cond(clean, update, tf.no_op), manager.update_loss_scale(clean))
