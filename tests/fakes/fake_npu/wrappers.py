"""The helpers that ``npu_init`` alone exports, from r1.3.0 on; NPU.md, sections 2 and 6."""

import os
from typing import List, Optional, Tuple

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from fake_npu.environment import rank_size
from fake_npu.parameters import NAME
from fake_npu.refusal import refuse
from fake_npu.release import since


def complete_config(config: Optional[tf.ConfigProto]) -> tf.ConfigProto:
    """What master does to the configuration of every session once npu_init is imported."""
    completed = tf.ConfigProto()
    completed.CopyFrom(config or tf.ConfigProto())
    completed.allow_soft_placement = True
    completed.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewrite = completed.graph_options.rewrite_options
    rewrite.remapping = RewriterConfig.OFF
    if not _has_entry(rewrite):
        rewrite.custom_optimizers.add(name=NAME)
    return completed


def npu_config_proto(config_proto: Optional[tf.ConfigProto] = None) -> tf.ConfigProto:
    """Makes or completes a ConfigProto; memory_optimization is left on by most releases."""
    config = config_proto if config_proto is not None else tf.ConfigProto()
    added = not _has_entry(config.graph_options.rewrite_options)
    config.CopyFrom(complete_config(config))
    config.log_device_placement = False
    if (since('master') and added) or (since('r1.8.0') and not since('master')):
        config.graph_options.rewrite_options.memory_optimization = RewriterConfig.OFF
    return config


def _has_entry(rewrite: RewriterConfig) -> bool:
    return any(entry.name == NAME for entry in rewrite.custom_optimizers)


def npu_hooks_append(hooks: Optional[List[tf.train.SessionRunHook]] = None) -> list:
    """Appends the broadcast from rank 0."""
    from npu_bridge.estimator.npu.npu_hook import NPUBroadcastGlobalVariablesHook
    return [*(hooks or []),
            NPUBroadcastGlobalVariablesHook(0, int(os.environ.get('RANK_ID') or 0))]


_ranks = {}


def _open(config: tf.ConfigProto) -> Tuple[tf.Session, tf.Operation]:
    from hccl.manage import api
    from npu_bridge.estimator import npu_ops
    with tf.Graph().as_default():
        start, stop = npu_ops.initialize_system(), npu_ops.shutdown_system()
        session = tf.Session(config=config)
    session.run(start)
    _ranks.update(rank_id=api.get_rank_id(), rank_size=api.get_rank_size())
    return session, stop


if since('r1.5.0'):
    def init_resource(config: Optional[tf.ConfigProto] = None
                      ) -> Tuple[tf.Session, tf.Operation]:
        """Opens a session, initialises the device, remembers the ranks."""
        return _open(npu_config_proto(config))
else:
    def init_resource() -> Tuple[tf.Session, tf.Operation]:
        """Opens a session, initialises the device, remembers the ranks."""
        return _open(npu_config_proto())


def shutdown_resource(sess: tf.Session, op: tf.Operation) -> None:
    """Runs what init_resource returned."""
    sess.run(op)


def close_session(sess: tf.Session) -> None:
    """Closes the session of init_resource."""
    sess.close()


def get_npu_rank_id() -> int:
    """This rank, as init_resource found it."""
    return _rank('rank_id')


def get_npu_rank_size() -> int:
    """Number of ranks, as init_resource found it."""
    return _rank('rank_size')


def _rank(what: str) -> int:
    if what not in _ranks:
        refuse('a rank is asked for before init_resource')
    return _ranks[what]


def npu_distributed_optimizer_wrapper(optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
    """Patches compute_gradients of an optimizer instead of wrapping the optimizer."""
    from npu_bridge.estimator.npu.npu_optimizer import reduce_all
    compute, size = optimizer.compute_gradients, rank_size()

    def reduced(*args, **kwargs):
        return reduce_all(compute(*args, **kwargs), size, optimizer)
    if size > 1:
        optimizer.compute_gradients = reduced
    return optimizer
