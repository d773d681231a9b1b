"""System ops and a few device ops; NPU.md, sections 1, 4 and 8."""

from typing import NoReturn, Optional

import tensorflow as tf
from fake_npu.release import not_established


def NPUInit(name: Optional[str] = None) -> tf.Operation:
    """The op that initialises the device when it is run."""
    return _system_op('NPUInit', name)


def NPUShutdown(name: Optional[str] = None) -> tf.Operation:
    """The op that shuts the device down when it is run."""
    return _system_op('NPUShutdown', name)


def initialize_system(name: Optional[str] = None) -> tf.Operation:
    """NPUInit, in graph mode only."""
    return NPUInit(name)


def shutdown_system(name: Optional[str] = None) -> tf.Operation:
    """NPUShutdown, in graph mode only."""
    return NPUShutdown(name)


def _system_op(kind: str, name: Optional[str]) -> tf.Operation:
    if tf.executing_eagerly():
        raise RuntimeError(f'{kind} works in graph mode only')
    op = tf.no_op(name or kind)
    tf.add_to_collection('fake_npu_' + kind, op)
    return op


def dropout(x, keep_prob, noise_shape=None, seed=None, name=None):
    """The device's dropout; here TensorFlow's own."""
    return tf.nn.dropout(x, noise_shape=noise_shape, seed=seed, name=name, rate=1 - keep_prob)


def LARS(*_args, **_kwargs) -> NoReturn:
    """Exists in every release; its arguments are not known here."""
    not_established('npu_ops.LARS')


def LARSV2(*_args, **_kwargs) -> NoReturn:
    """Exists in every release; its arguments are not known here."""
    not_established('npu_ops.LARSV2')
