"""Sessions on an Ascend NPU: the adapter found and loaded, the device, and its configuration.

Training and detection share the configuration. ``npu_bridge`` is imported by module paths that all
releases of the adapter have, and only when a run is about to build its graph: loading it loads the
device's libraries.
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
        consequence: what cannot be done without it, and the way out; ends the sentence.

    Raises:
        PSENetError: npu_bridge is not installed.
    """
    if importlib.util.find_spec('npu_bridge') is None:
        raise PSENetError("npu_bridge, the TensorFlow adapter of Ascend's CANN, is not installed "
                          f'for this Python, and {consequence}')


@contextmanager
def loading() -> Iterator[None]:
    """Within it the adapter is imported.

    Raises:
        PSENetError: it, or the libraries it needs, cannot be loaded.
    """
    try:
        yield
    # Where its native part does not load, the adapter prints that and goes on, to a name or an
    # attribute that is not there.
    except (ImportError, NameError, AttributeError, OSError) as error:
        raise PSENetError(f'npu_bridge is installed and cannot be loaded ({error}); source the '
                          'set_env.sh of the CANN installation, whose libraries it '
                          'needs') from error


def session_config(options: Dict[str, Value]) -> tf.ConfigProto:
    """One NpuOptimizer, and the two rewrites off that would put ops into the graph it lacks.

    Args:
        options: key -> value of the adapter's options that were given.

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
    """Sets the field of the value's type; options have been read as what the adapter takes."""
    if isinstance(value, str):
        entry.s = value.encode('utf-8')
    elif isinstance(value, bool):
        entry.b = value
    else:
        entry.i = value


def ask_for_rank(options: Dict[str, Value]) -> int:
    """Asks the adapter which rank of its job this process is, which needs all of them.

    Args:
        options: as for ``session_config``.

    Returns:
        The rank, from 0 on.

    Raises:
        PSENetError: the adapter cannot be loaded, or the job does not come together.
    """
    with loading():
        from hccl.manage.api import get_rank_id
        from npu_bridge.estimator import npu_ops
    with tf.Graph().as_default():
        initialise = npu_ops.initialize_system()
        # The adapter forgets the rank when the session is closed: it is asked before.
        with tf.Session(config=session_config(options)) as session:
            try:
                session.run(initialise)
                return int(get_rank_id())
            except (tf.errors.OpError, RuntimeError, ValueError) as error:
                raise PSENetError(f'CM_WORKER_SIZE={os.environ.get("CM_WORKER_SIZE")}: the adapter '
                                  f'cannot tell the rank of this process ({first_line(error)}); '
                                  'see that all processes of the job run and have the same '
                                  'CM_CHIEF_IP and CM_CHIEF_PORT') from error


def inference_session_config(options: Dict[str, Value]) -> tf.ConfigProto:
    """Loads the adapter, which has to be there before a session is, for a network that only runs.

    ASCEND_DEVICE_ID, else DEVICE_ID, names the device; where neither is set it is the first one.

    Args:
        options: as for ``session_config``. Where they hold no precision_mode, the adapter's default
            is force_fp16, not that of training.

    Returns:
        The configuration of every session of the process.

    Raises:
        PSENetError: the adapter is not installed or cannot be loaded, or the environment is not
            that of one process on one NPU.
    """
    check_installed('--platform=npu is for Ascend NPUs only; GPUs and CPUs take --platform=gpu')
    remove_empty(os.environ)
    check_one_device(os.environ)
    with loading():
        import npu_bridge.estimator.npu_ops  # noqa: F401 - its native part registers the device
    config = session_config(options)
    optimizer, = config.graph_options.rewrite_options.custom_optimizers
    optimizer.parameter_map['graph_run_mode'].i = _ONLINE_INFERENCE
    return config


# The usual rule of the adapter's published examples.
_SCALE_UP_EVERY = 1000
_SCALE_DOWN_EVERY = 2
_SCALE_DOWN_RATIO = 0.5
# The adapter's name for what it must not put together with other collectives.
_NO_FUSION = 0
# Part of the name of every op by which the adapter's optimizer averages gradients.
_AVERAGING = '_Allreduce'
# What a run fails with when a collective does not come about. The adapter gives no better reason.
_PEER_ERRORS = (tf.errors.InternalError, tf.errors.UnavailableError, tf.errors.AbortedError,
                tf.errors.DeadlineExceededError, tf.errors.UnknownError)


class _Bridge(NamedTuple):
    """The parts of the adapter that are used."""

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
    """The NPU that ASCEND_DEVICE_ID, else DEVICE_ID, names; the first one where neither is set.

    With RANK_SIZE above 1 the process is one of so many that train together. Gradients are averaged
    over them; the dice sums of the loss and batch normalisation run over the batch of each.
    """

    def __init__(self, config: NpuConfig):
        """Checks everything that does not need the device.

        Args:
            config: loss scaling, limits, and the adapter's options.

        Raises:
            PSENetError: npu_bridge is not installed, or the environment is not that of a process
                on one NPU, which is alone or knows its job; or an option is not for so many.
        """
        check_installed('npu_train.py trains on Ascend NPUs only; train.py is for GPUs '
                                    'and CPUs')
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
            PSENetError: it, or the libraries it needs, cannot be loaded.
        """
        self._bridge = _import_bridge()

    def tower_scope(self, index: int) -> ContextManager:
        """No placement: the adapter takes the whole graph."""
        return contextlib.nullcontext()

    def session_config(self) -> tf.ConfigProto:
        """The configuration of every session on an NPU, with the given options."""
        return session_config(self._npu_config.options)

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Loss scaling outermost, and the overflow of one rank is that of all.

        The all-reduce inside it adds nothing on one device.
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
        """The loss scale that the next step will have."""
        return {'loss_scale': tf.identity(self._scale)}

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """One all-reduce of the whole vector."""
        if self.world_size == 1:
            return values
        return self._bridge.collectives.allreduce(values, 'sum', _NO_FUSION) / self.world_size

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """A broadcast for each variable of floats.

        The adapter's own helper leaves out all but the trainable ones, in most releases. Integers
        are the counters of the dynamic loss scale, which every rank starts or restores alike.

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
        """Treats every failure within the device as one, as the adapter gives no reason."""
        return self.world_size > 1 and isinstance(error, _PEER_ERRORS)


def _check_averages(graph: tf.Graph) -> None:
    """Rejects releases that ignore CM_WORKER_SIZE and would silently train one rank."""
    if not any(_AVERAGING in op.name for op in graph.get_operations()):
        raise PSENetError('the installed release of npu_bridge does not average gradients over '
                          'CM_WORKER_SIZE processes; describe the job by RANK_SIZE and '
                          'RANK_TABLE_FILE instead')
