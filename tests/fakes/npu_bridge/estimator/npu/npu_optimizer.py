"""Optimizers that reduce gradients over the ranks; NPU.md, section 6."""

import os
from typing import NoReturn, Optional

import tensorflow as tf
from fake_npu.environment import demand_job, rank_size
from fake_npu.loss_scaling import apply_scaled, compute_scaled
from fake_npu.release import not_established, since
from fake_npu.run_rules import TAILING

from npu_bridge.hccl import hccl_ops


def allreduce(*_args, **_kwargs) -> NoReturn:
    """Exists in every release; its arguments are not known here."""
    not_established('npu_optimizer.allreduce')


def _reduce_mean(tensor, size: int):
    demand_job()
    if isinstance(tensor, tf.IndexedSlices):
        return tf.IndexedSlices(hccl_ops.allgather(tensor.values, size) / size,
                                hccl_ops.allgather(tensor.indices, size), tensor.dense_shape)
    return hccl_ops.allreduce(tensor, 'sum') / size


def reduce_all(grads_and_vars, size: int, inner: tf.train.Optimizer):
    """All gradients averaged over the ranks, under the name that marks a training graph."""
    with tf.name_scope(f'Distributed{type(inner).__name__}_Allreduce'):
        return [(None if gradient is None else _reduce_mean(gradient, size), variable)
                for gradient, variable in grads_and_vars]


class NPUDistributedOptimizer(tf.train.Optimizer):
    """Averages the gradients of another optimizer over the ranks; with one rank it adds nothing."""

    def __init__(self, optimizer: tf.train.Optimizer, is_weight_update_sharding: bool = False,
                 name: Optional[str] = None):
        super().__init__(name=name or f'Distributed{type(optimizer).__name__}',
                         use_locking=False)
        if is_weight_update_sharding and not os.environ.get('DEVICE_ID'):
            raise ValueError('DEVICE_ID must be set for weight-update sharding')
        self._optimizer = optimizer
        self._is_weight_update_sharding = is_weight_update_sharding

    def compute_gradients(self, *args, **kwargs):
        """The inner gradients; all-reduced when RANK_SIZE says that there are other ranks."""
        gradients = self._optimizer.compute_gradients(*args, **kwargs)
        size = rank_size()
        if size <= 1:
            return gradients
        if self._is_weight_update_sharding:
            not_established('weight-update sharding')
        return reduce_all(gradients, size, self._optimizer)

    def apply_gradients(self, *args, **kwargs):
        """The inner optimizer's."""
        return self._optimizer.apply_gradients(*args, **kwargs)


class NPUOptimizer(tf.train.Optimizer):
    """All-reduce and loss scaling in one; is_distributed says whether to reduce."""

    def __init__(self, opt: tf.train.Optimizer,
                 loss_scale_manager=None,
                 is_distributed: bool = False, is_loss_scale: bool = False,
                 is_tailing_optimization: bool = False, name: Optional[str] = None):
        if is_loss_scale and loss_scale_manager is None:
            raise ValueError('is_loss_scale=True needs a loss_scale_manager')
        super().__init__(name=name or f'NPUOptimizer{type(opt).__name__}', use_locking=False)
        self._opt = opt
        self._manager = loss_scale_manager if is_loss_scale else None
        self._is_distributed = is_distributed
        tf.add_to_collection(TAILING, is_tailing_optimization)

    def compute_gradients(self, loss, *args, **kwargs):
        """The gradients of the loss, scaled on the way and reduced as the arguments said."""
        gradients = compute_scaled(self._opt, self._manager, loss, *args, **kwargs)
        if self._is_distributed:
            return reduce_all(gradients, rank_size(), self._opt)
        return gradients

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """Updates unless the float status is dirty.

        Raises:
            TypeError: a gradient is None, in every release but master.
        """
        pairs = list(grads_and_vars)
        if any(gradient is None for gradient, _ in pairs):
            if not since('master'):
                raise TypeError('Can not convert a NoneType into a Tensor or Operation.')
            pairs = [pair for pair in pairs if pair[0] is not None]
        return apply_scaled(lambda: self._opt.apply_gradients(pairs, global_step, name),
                            self._manager, pairs, self._is_distributed)
