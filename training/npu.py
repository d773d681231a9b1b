"""Training on one Ascend NPU in session style: the adapter's optimizers and loss scaling.

``npu_bridge`` is imported by module paths that all releases of the adapter share, and only when a
run is about to build its graph: loading it loads the device's libraries.
"""

import contextlib
import os
from typing import Any, ContextManager, Dict, NamedTuple

import tensorflow as tf

from training import npu_session
from training.device import Device, Limits
from training.npu_environment import check_one_device
from training.npu_options import NpuConfig

# The usual rule of the adapter's published examples.
_SCALE_UP_EVERY = 1000
_SCALE_DOWN_EVERY = 2
_SCALE_DOWN_RATIO = 0.5


class _Bridge(NamedTuple):
    """What is used of the adapter."""

    distributed_optimizer: Any
    loss_scale_optimizer: Any
    fixed_scale: Any
    dynamic_scale: Any


def _import_bridge() -> _Bridge:
    with npu_session.loading():
        from npu_bridge.estimator.npu.npu_loss_scale_manager import (
            ExponentialUpdateLossScaleManager,
            FixedLossScaleManager,
        )
        from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
        from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer
    return _Bridge(NPUDistributedOptimizer, NPULossScaleOptimizer, FixedLossScaleManager,
                   ExponentialUpdateLossScaleManager)


class NpuDevice(Device):
    """The NPU that ASCEND_DEVICE_ID, else DEVICE_ID, names; the first one where neither is set."""

    def __init__(self, config: NpuConfig):
        """Checks what can be checked without touching the device.

        Args:
            config: loss scaling, limits, and the adapter's options.

        Raises:
            PSENetError: npu_bridge is not installed, or the environment is not that of one process
                on one NPU.
        """
        npu_session.check_installed('npu_train.py trains on Ascend NPUs only; train.py is for GPUs '
                                    'and CPUs')
        check_one_device(os.environ)
        self._npu_config = config
        self._bridge = None
        self._scale = None

    @property
    def num_towers(self) -> int:
        return 1

    @property
    def may_skip_steps(self) -> bool:
        return True

    @property
    def limits(self) -> Limits:
        return Limits(self._npu_config.max_loss, self._npu_config.max_skipped_steps)

    def prepare(self) -> None:
        """Loads the adapter.

        Raises:
            PSENetError: it, or the libraries it needs, cannot be loaded.
        """
        self._bridge = _import_bridge()

    def tower_scope(self, index: int) -> ContextManager:
        """No placement: the adapter takes the whole graph."""
        return contextlib.nullcontext()

    def session_config(self) -> tf.ConfigProto:
        """That of every session on an NPU, with the options given."""
        return npu_session.session_config(self._npu_config.options)

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Loss scaling outermost; the all-reduce inside it adds nothing on one device."""
        manager = self._loss_scale_manager()
        self._scale = manager.get_loss_scale()
        return self._bridge.loss_scale_optimizer(self._bridge.distributed_optimizer(optimizer),
                                                 manager, is_distributed=False)

    def _loss_scale_manager(self) -> Any:
        scale = self._npu_config.loss_scale
        if self._npu_config.loss_scale_mode == 'fixed':
            return self._bridge.fixed_scale(scale)
        return self._bridge.dynamic_scale(
            init_loss_scale=scale, incr_every_n_steps=_SCALE_UP_EVERY,
            decr_every_n_nan_or_inf=_SCALE_DOWN_EVERY, incr_ratio=2,
            decr_ratio=_SCALE_DOWN_RATIO)

    def step_scalars(self) -> Dict[str, tf.Tensor]:
        """The loss scale that the next step will have."""
        return {'loss_scale': tf.identity(self._scale)}
