"""Scopes that mark nodes; NPU.md, section 8."""

from contextlib import contextmanager
from typing import Iterator, NoReturn

import tensorflow as tf
from fake_npu.release import not_established, since
from fake_npu.run_rules import HOST_SCOPE
from tensorflow.core.framework.attr_value_pb2 import AttrValue

if since('development'):
    @contextmanager
    def keep_dtype_scope() -> Iterator[None]:
        """Nodes keep their precision under mixed precision."""
        value = AttrValue(i=1) if since('master') else AttrValue(b=True)
        with tf.get_default_graph()._attr_scope({'_keep_dtype': value}):
            yield


@contextmanager
def without_npu_compile_scope() -> Iterator[None]:
    """Nodes stay on the host, where mix_compile_mode is on."""
    graph = tf.get_default_graph()
    graph.add_to_collection(HOST_SCOPE, True)
    with graph._attr_scope({'_without_npu_compile': AttrValue(b=True)}):
        yield


def npu_variable_scope(placement) -> NoReturn:
    """Exists; how it marks nodes is not known here."""
    not_established('npu_scope.npu_variable_scope')


def npu_stage_scope(stage) -> NoReturn:
    """Exists; how it marks nodes is not known here."""
    not_established('npu_scope.npu_stage_scope')
