"""Everything under one name; what that is differs from release to release; NPU.md, section 2."""

import os

import tensorflow as tf
from fake_npu import wrappers
from fake_npu.exports import Unmodelled, exported_names
from fake_npu.release import since
from fake_npu.session import watch
from hccl.manage import api as manage
from hccl.split import api as split
from tensorflow.core.protobuf import rewriter_config_pb2

from npu_bridge.estimator import npu_ops
from npu_bridge.estimator.npu import (
    npu_config,
    npu_estimator,
    npu_hook,
    npu_loss_scale_manager,
    npu_loss_scale_optimizer,
    npu_optimizer,
    npu_scope,
    util,
)
from npu_bridge.hccl import hccl_ops

_MODULES = {'npu_ops': npu_ops, 'npu_scope': npu_scope, 'util': util, 'hccl_ops': hccl_ops,
            'rewriter_config_pb2': rewriter_config_pb2, 'tf': tf, 'os': os}
_PLACES = (npu_estimator, npu_config, npu_hook, npu_optimizer, npu_loss_scale_optimizer,
           npu_loss_scale_manager, rewriter_config_pb2, manage, split, wrappers)


def _find(name: str):
    if name in _MODULES:
        return _MODULES[name]
    for place in _PLACES:
        if hasattr(place, name):
            return getattr(place, name)
    return Unmodelled(name)


__all__ = list(exported_names())
globals().update({name: _find(name) for name in __all__})

if since('master'):
    # Sessions are patched by the import.
    watch.complete = wrappers.complete_config
