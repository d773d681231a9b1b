"""Watches every session of the process from the moment that ``npu_bridge`` is imported."""

import functools
from typing import Callable, Dict

from tensorflow.python.client.session import BaseSession, _FetchHandler

from fake_npu import float_status
from fake_npu.reach import reached_ops

_originals: Dict[str, Callable] = {}


def install() -> None:
    """Replaces ``run`` of every kind of session; a second call does nothing."""
    if not _originals:
        _originals['run'] = BaseSession.run
        BaseSession.run = _watched_run(BaseSession.run)


def uninstall() -> None:
    """Gives the sessions their own methods back."""
    for name, method in _originals.items():
        setattr(BaseSession, name, method)
    _originals.clear()


def _watched_run(run: Callable) -> Callable:
    @functools.wraps(run)
    def watched(self, fetches, feed_dict=None, options=None, run_metadata=None):
        feed_dict = dict(feed_dict or {})
        handler = _FetchHandler(self.graph, fetches, {})
        fetched = [tensor.op for tensor in handler.fetches()] + handler.targets()
        reached = reached_ops(fetched, _fed_ops(self.graph, feed_dict))
        feed_dict.update(float_status.overflow_feeds(self.graph, reached))
        return run(self, fetches, feed_dict, options, run_metadata)
    return watched


def _fed_ops(graph, feed_dict):
    return [graph.as_graph_element(key, allow_operation=False).op for key in feed_dict]
