"""The device's float status: gradients that saturate, and overflows that tests inject.

Source: NPU.md, section 6 (NPULossScaleOptimizer). The device saturates, so no Inf or NaN is ever
seen; its float status alone tells of an overflow. Here a gradient that leaves float32 is saturated
and makes the status dirty, and so does a step that FAKE_NPU_OVERFLOW_STEPS names, "3,4" for the
third and the fourth run of the apply op in this process.
"""

import os
from typing import Dict, Iterable, List, Set

import numpy as np
import tensorflow as tf

VARIABLE = 'FAKE_NPU_OVERFLOW_STEPS'
STATUS = 'fake_npu_float_status'
_NON_FINITE = 'fake_npu_non_finite'
_SIZE = 8
_runs = 0


def saturate(tensor: tf.Tensor) -> tf.Tensor:
    """What the device would compute where the CPU gets Inf or NaN; remembers that it happened.

    Args:
        tensor: float, any shape.

    Returns:
        The same where finite; the largest number of the dtype with the sign of Inf; 0 for NaN,
        which is an assumption of this fake.
    """
    finite = tf.is_finite(tensor)
    tf.add_to_collection(_NON_FINITE, tf.logical_not(tf.reduce_all(finite)))
    largest = tensor.dtype.max
    limited = tf.clip_by_value(tensor, -largest, largest)
    return tf.where(finite, tensor, tf.where(tf.is_nan(tensor), tf.zeros_like(tensor), limited))


def read_after(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """The float status once all tensors are computed.

    Returns:
        float32 [8], zeros when nothing overflowed.
    """
    with tf.control_dependencies(list(tensors)):
        # The session feeds ones into it at the steps to overflow.
        status = tf.placeholder_with_default(np.zeros(_SIZE, np.float32), [_SIZE],
                                             name='NpuGetFloatStatus')
        tf.add_to_collection(STATUS, status)
        seen = tf.get_collection(_NON_FINITE)
        return status + tf.cast(tf.reduce_any(tf.stack(seen)), tf.float32) if seen else status


def overflow_feeds(graph: tf.Graph, reached: Set[tf.Operation]) -> Dict[tf.Tensor, np.ndarray]:
    """Counts a run and says what to feed so that the steps to overflow do.

    Args:
        graph: the session's.
        reached: every op that the run executes.

    Returns:
        Status tensor -> ones when this run is to overflow; otherwise empty.
    """
    global _runs  # noqa: PLW0603 - the steps are counted over all sessions of the process
    reads = [status for status in graph.get_collection(STATUS) if status.op in reached]
    if not reads:
        return {}
    _runs += 1
    if _runs not in _steps_to_overflow():
        return {}
    return {status: np.ones(_SIZE, np.float32) for status in reads}


def runs() -> int:
    """How often the process has run an apply op."""
    return _runs


def _steps_to_overflow() -> List[int]:
    text = os.environ.get(VARIABLE, '')
    return [int(step) for step in text.split(',') if step.strip()]
