"""Sessions on an Ascend NPU: the adapter found and loaded, and the one configuration of them all.

Training and detection share it. The adapter is imported by a module path that all its releases
have, and only when a run is about to build its graph: loading it loads the device's libraries.
"""

import importlib.util
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from training.npu_environment import check_one_device, remove_empty
from training.npu_options import Value
from utils.errors import PSENetError, first_line

_ALWAYS_ON = {'use_off_line': True}
# The adapter's graph_run_mode; its own default is 1, training.
_ONLINE_INFERENCE = 0


def check_installed(consequence: str) -> None:
    """Looks for the adapter without loading it.

    Args:
        consequence: what cannot be done without it, and the way out; ends the sentence.

    Raises:
        PSENetError: npu_bridge is not installed.
    """
    if importlib.util.find_spec('npu_bridge') is None:
        raise PSENetError("npu_bridge, the TensorFlow adapter of Ascend's CANN, is not installed "
                          'for this Python, and %s' % consequence)


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
        raise PSENetError('npu_bridge is installed and cannot be loaded (%s); source the '
                          'set_env.sh of the CANN installation, whose libraries it needs'
                          % error) from error


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
