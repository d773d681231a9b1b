"""Hooks of NPUEstimator and the adapter's broadcast; NPU.md, sections 1, 7 and 9."""

import tensorflow as tf
from fake_npu.release import not_established, since

from npu_bridge.hccl import hccl_ops


def _broadcast(variables, root_rank: int) -> tf.Operation:
    return tf.group(*[tf.assign(variable, hccl_ops.broadcast([variable], root_rank)[0])
                      for variable in variables])


if since('r1.8.0'):
    def broadcast_global_variables(root_rank: int) -> tf.Operation:
        """Gives every rank the variables of one; which ones is not known here."""
        not_established(f'broadcast_global_variables({root_rank})')
else:
    def broadcast_global_variables(root_rank: int, index: int) -> tf.Operation:
        """Gives every rank variables of one: all in r1.1.1, only trainable ones later."""
        variables = tf.trainable_variables() if since('development') else tf.global_variables()
        return _broadcast(variables, root_rank)


class NPUBroadcastGlobalVariablesHook(tf.train.SessionRunHook):
    """Broadcasts when the session has been made."""

    def __init__(self, root_rank: int, index: int):
        self._arguments = (root_rank,) if since('r1.8.0') else (root_rank, index)
        self._op = None

    def begin(self):
        """Builds the op."""
        self._op = broadcast_global_variables(*self._arguments)

    def after_create_session(self, session, coord):
        """Runs it."""
        session.run(self._op)


class NPUCheckpointSaverHook(tf.train.CheckpointSaverHook):
    """Saves checkpoints; arguments as in TensorFlow's hook."""


class SetIterationsVarHook(tf.train.SessionRunHook):
    """Exists in every release; its arguments are not known here."""

    def __init__(self, *_args, **_kwargs):
        not_established('npu_hook.SetIterationsVarHook')


class NPUOutputTensorHook(tf.train.SessionRunHook):
    """Exists in every release; its arguments are not known here."""

    def __init__(self, *_args, **_kwargs):
        not_established('npu_hook.NPUOutputTensorHook')
