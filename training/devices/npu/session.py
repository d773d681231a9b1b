"""Sessions on an Ascend NPU: loading the adapter, the device, and session configurations.

Training and detection share the configuration. ``npu_bridge`` is imported by module paths that all
releases of the adapter have, just before the graph is built, as it loads the device's libraries.
"""

import contextlib
import importlib.util
import os
from contextlib import contextmanager
from typing import Any, ContextManager, Dict, Iterator, NamedTuple, Optional, Sequence

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from training.devices.device import Device, Limits
from training.devices.npu.job import check_one_device, rank_from_environment, remove_empty
from training.devices.npu.options import NpuConfig, Value, check_for_ranks
from utils.errors import PSENetError, first_line

_ALWAYS_ON = {'use_off_line': True}
# The adapter's graph_run_mode; its own default is 1, training.
_ONLINE_INFERENCE = 0


def check_installed(consequence: str) -> None:
    """Checks that the adapter is installed, without loading it.

    Args:
        consequence: end of the message: the consequence and the remedy.

    Raises:
        PSENetError: npu_bridge is not installed.
    """
    if importlib.util.find_spec('npu_bridge') is None:
        raise PSENetError("npu_bridge, the TensorFlow adapter of Ascend's CANN, is not installed "
                          f'for this Python, and {consequence}')


@contextmanager
def loading() -> Iterator[None]:
    """Surrounds imports of the adapter.

    Raises:
        PSENetError: the adapter or its libraries cannot be loaded.
    """
    try:
        yield
    # If its native library does not load, the adapter only prints a message, and fails later with
    # a missing name or attribute.
    except (ImportError, NameError, AttributeError, OSError) as error:
        raise PSENetError(f'npu_bridge is installed but cannot be loaded ({error}); source the '
                          'set_env.sh of the CANN installation for its libraries') from error


def session_config(options: Dict[str, Value]) -> tf.ConfigProto:
    """Configures NpuOptimizer, and disables two rewrites that insert ops unknown to the adapter.

    Args:
        options: key -> value of the given options of the adapter.

    Returns:
        The configuration of every session of the process.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    rewrites = config.graph_options.rewrite_options
    rewrites.remapping = RewriterConfig.OFF
    rewrites.memory_optimization = RewriterConfig.OFF
    optimizer = rewrites.custom_optimizers.add(name='NpuOptimizer')
    for key, value in {**options, **_ALWAYS_ON}.items():
        _set(optimizer.parameter_map[key], value)
    return config


def _set(entry: Any, value: Value) -> None:
    """Sets the field for the type of the value."""
    if isinstance(value, str):
        entry.s = value.encode('utf-8')
    elif isinstance(value, bool):
        entry.b = value
    else:
        entry.i = value


def ask_for_rank(options: Dict[str, Value]) -> int:
    """Asks the adapter for the rank of this process, which needs all processes of the job.

    Args:
        options: as for ``session_config``.

    Returns:
        The rank, from 0.

    Raises:
        PSENetError: the adapter cannot be loaded, or the processes do not connect.
    """
    with loading():
        from hccl.manage.api import get_rank_id
        from npu_bridge.estimator import npu_ops
    with tf.Graph().as_default():
        initialise = npu_ops.initialize_system()
        # The rank is only known until the session is closed.
        with tf.Session(config=session_config(options)) as session:
            try:
                session.run(initialise)
                return int(get_rank_id())
            except (tf.errors.OpError, RuntimeError, ValueError) as error:
                raise PSENetError(f'CM_WORKER_SIZE={os.environ.get("CM_WORKER_SIZE")}: the adapter '
                                  f'cannot determine the rank of this process '
                                  f'({first_line(error)}); check that all processes of the job run '
                                  'with the same CM_CHIEF_IP and CM_CHIEF_PORT') from error


def inference_session_config(options: Dict[str, Value]) -> tf.ConfigProto:
    """Loads the adapter, which must precede any session, and configures sessions for inference.

    The device is ASCEND_DEVICE_ID, otherwise DEVICE_ID, or the first one.

    Args:
        options: as for ``session_config``. The default of precision_mode is force_fp16, unlike in
            training.

    Returns:
        The configuration of every session of the process.

    Raises:
        PSENetError: the adapter is not installed or cannot be loaded, or the environment is not
            that of one process on one NPU.
    """
    check_installed('--platform=npu is for Ascend NPUs only; use --platform=gpu for GPUs and CPUs')
    remove_empty(os.environ)
    check_one_device(os.environ)
    with loading():
        import npu_bridge.estimator.npu_ops  # noqa: F401 - registers the device
    config = session_config(options)
    optimizer, = config.graph_options.rewrite_options.custom_optimizers
    optimizer.parameter_map['graph_run_mode'].i = _ONLINE_INFERENCE
    return config


# As in the adapter's published examples.
_SCALE_UP_EVERY = 1000
_SCALE_DOWN_EVERY = 2
_SCALE_DOWN_RATIO = 0.5
# Value of the fusion argument that excludes an op from fusion with other collectives.
_NO_FUSION = 0
# Part of the name of all ops with which the adapter's optimizer averages gradients.
_AVERAGING = '_Allreduce'
# Errors of failed collectives, for which the adapter gives no specific reason.
_PEER_ERRORS = (tf.errors.InternalError, tf.errors.UnavailableError, tf.errors.AbortedError,
                tf.errors.DeadlineExceededError, tf.errors.UnknownError)


class _Bridge(NamedTuple):
    """Classes and modules of the adapter."""

    distributed_optimizer: Any
    loss_scale_optimizer: Any
    fixed_scale: Any
    dynamic_scale: Any
    collectives: Any


def _import_bridge() -> _Bridge:
    with loading():
        from npu_bridge.estimator.npu.npu_loss_scale_manager import (
            ExponentialUpdateLossScaleManager,
            FixedLossScaleManager,
        )
        from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
        from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer
        from npu_bridge.hccl import hccl_ops
    return _Bridge(NPUDistributedOptimizer, NPULossScaleOptimizer, FixedLossScaleManager,
                   ExponentialUpdateLossScaleManager, hccl_ops)


class NpuDevice(Device):
    """The NPU in ASCEND_DEVICE_ID, otherwise DEVICE_ID, or the first one.

    With RANK_SIZE above 1 several processes train together. Gradients are averaged over them; dice
    loss and batch normalisation use the batch of each process.
    """

    def __init__(self, config: NpuConfig):
        """Checks everything that does not need the device.

        Args:
            config: loss scaling, limits, and options of the adapter.

        Raises:
            PSENetError: npu_bridge is not installed, the environment is invalid, or an option is
                not valid for the number of ranks.
        """
        check_installed('npu_train.py trains on Ascend NPUs only; train.py is for GPUs and CPUs')
        remove_empty(os.environ)
        self._place = rank_from_environment(os.environ)
        check_for_ranks(config.options, self._place.size)
        if self._place.rank is None:
            self._place = self._place._replace(rank=ask_for_rank(config.options))
        self._npu_config = config
        self._bridge = None
        self._scale = None

    @property
    def num_towers(self) -> int:
        return 1

    @property
    def rank(self) -> int:
        return self._place.rank

    @property
    def world_size(self) -> int:
        return self._place.size

    @property
    def may_skip_steps(self) -> bool:
        return True

    @property
    def limits(self) -> Limits:
        return Limits(self._npu_config.max_loss, self._npu_config.max_skipped_steps)

    def prepare(self) -> None:
        """Loads the adapter.

        Raises:
            PSENetError: the adapter or its libraries cannot be loaded.
        """
        self._bridge = _import_bridge()

    def tower_scope(self, index: int) -> ContextManager:
        """Returns a null context, as the adapter runs the whole graph."""
        return contextlib.nullcontext()

    def session_config(self) -> tf.ConfigProto:
        """Returns the configuration of every session on an NPU."""
        return session_config(self._npu_config.options)

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Adds loss scaling around all-reduce, so that an overflow on one rank counts for all.

        The all-reduce has no effect on one device.
        """
        manager = self._loss_scale_manager()
        self._scale = manager.get_loss_scale()
        return self._bridge.loss_scale_optimizer(self._bridge.distributed_optimizer(optimizer),
                                                 manager, is_distributed=self.world_size > 1)

    def _loss_scale_manager(self) -> Any:
        scale = self._npu_config.loss_scale
        if self._npu_config.loss_scale_mode == 'fixed':
            return self._bridge.fixed_scale(scale)
        return self._bridge.dynamic_scale(
            init_loss_scale=scale, incr_every_n_steps=_SCALE_UP_EVERY,
            decr_every_n_nan_or_inf=_SCALE_DOWN_EVERY, incr_ratio=2,
            decr_ratio=_SCALE_DOWN_RATIO)

    def step_scalars(self) -> Dict[str, tf.Tensor]:
        """Returns the loss scale of the next step."""
        return {'loss_scale': tf.identity(self._scale)}

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """Uses a single all-reduce for the vector."""
        if self.world_size == 1:
            return values
        return self._bridge.collectives.allreduce(values, 'sum', _NO_FUSION) / self.world_size

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """Builds one broadcast for each floating-point variable.

        The adapter's helper only broadcasts trainable variables in most releases. Integer variables
        are counters of the dynamic loss scale, which are equal on all ranks.

        Raises:
            PSENetError: the graph does not average gradients.
        """
        if self.world_size == 1:
            return None
        _check_averages(tf.get_default_graph())
        with tf.name_scope('broadcast'):
            return tf.group(*[self._broadcast(variable) for variable in variables
                              if variable.dtype.base_dtype.is_floating])

    def _broadcast(self, variable: tf.Variable) -> tf.Tensor:
        received, = self._bridge.collectives.broadcast([variable], root_rank=0)
        return tf.assign(variable, received)

    def is_peer_failure(self, error: tf.errors.OpError) -> bool:
        """Treats every failure on the device as one, as the adapter gives no reason."""
        return self.world_size > 1 and isinstance(error, _PEER_ERRORS)


def _check_averages(graph: tf.Graph) -> None:
    """Rejects releases that ignore CM_WORKER_SIZE and would silently train one rank."""
    if not any(_AVERAGING in op.name for op in graph.get_operations()):
        raise PSENetError('the installed release of npu_bridge does not average gradients over '
                          'CM_WORKER_SIZE processes; use RANK_SIZE and RANK_TABLE_FILE instead')
