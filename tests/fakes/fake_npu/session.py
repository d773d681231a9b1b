"""Watches every session of the process from the moment that ``npu_bridge`` is imported.

Source: NPU.md, section 0 (one configuration for every session), 5 and 10 (no fork).
"""

import functools
import os
from typing import Any, Callable, Dict, Optional

import tensorflow as tf
from tensorflow.python.client.session import BaseSession, _FetchHandler

from fake_npu import float_status, record, sent_signal
from fake_npu.collectives import collectives_in
from fake_npu.digests import record_variables
from fake_npu.environment import check_device_environment
from fake_npu.group_runs import GroupRun, group
from fake_npu.parameters import check_config
from fake_npu.reach import reached_ops
from fake_npu.refusal import refuse
from fake_npu.run_rules import ITERATIONS, Run, RunRules


class Watch:
    """What a process has done with its sessions."""

    def __init__(self):
        self.config: Optional[tf.ConfigProto] = None
        self.parameters: Dict[str, Any] = {}
        self.of_estimator = False
        # Completes a configuration, as importing npu_init does in master.
        self.complete: Callable = lambda config: config
        self.initialised = False     # whether the collectives' queries can be answered
        self.trained = False
        self._pid: Optional[int] = None
        self._rules = RunRules()

    def open(self, config: Optional[tf.ConfigProto]) -> None:
        """Checks a session that is being made."""
        self._check_process()
        check_device_environment()
        parameters = check_config(config, self.of_estimator)
        if self.config is not None and config != self.config:
            refuse('two sessions of the process have different '
                   f'configurations:\n{self.config}\n{config}')
        self.parameters = parameters
        self.config = tf.ConfigProto()
        self.config.CopyFrom(config)
        self._pid = os.getpid()
        record.write('session', parameters=parameters,
                     config=config.SerializeToString(deterministic=True).hex(),
                     allow_soft_placement=config.allow_soft_placement)

    def run(self, run: Run) -> Dict[tf.Tensor, Any]:
        """Checks a run; returns what to feed besides so that it overflows when it is to."""
        self._check_process()
        kind = self._rules.check(run, self.parameters)
        self.trained |= kind == 'train'
        self._note_initialisation(run, kind)
        feeds = float_status.overflow_feeds(run.graph, run.reached)
        if feeds:
            record.write('overflow', run=float_status.runs())
        if kind == 'train':
            sent_signal.send(float_status.runs())
        return feeds

    def close(self) -> None:
        """A session is closed, which ends the collectives."""
        self.initialised = False

    def _note_initialisation(self, run: Run, kind: str) -> None:
        # The first graph on the device initialises it as the op does.
        if kind != 'host' or _reaches(run, 'fake_npu_NPUInit'):
            self.initialised = True
        if _reaches(run, 'fake_npu_NPUShutdown'):
            self.initialised = False

    def fork(self) -> None:
        """Refuses a fork of a process that has had a session."""
        if self._pid == os.getpid():
            refuse('the process is forked after its device was initialised; start processes '
                   'before, or by forkserver or spawn')

    def _check_process(self) -> None:
        if self._pid not in (None, os.getpid()):
            refuse('a forked process uses the sessions of its parent')


def _reaches(run: Run, collection: str) -> bool:
    return any(op in run.reached for op in run.graph.get_collection(collection))


watch = Watch()
_originals: Dict[str, Callable] = {}


def install() -> None:
    """Replaces what makes, runs and forks; a second call does nothing."""
    if _originals:
        return
    _originals.update(__init__=BaseSession.__init__, run=BaseSession.run,
                      close=BaseSession.close, fork=os.fork)
    BaseSession.__init__ = _watched_init(BaseSession.__init__)
    BaseSession.run = _watched_run(BaseSession.run)
    BaseSession.close = _watched_close(BaseSession.close)
    os.fork = _watched_fork(os.fork)


def uninstall() -> None:
    """Gives the sessions and the process their own functions back, and leaves the other ranks."""
    group.leave()
    if _originals:
        os.fork = _originals.pop('fork')
    for name, method in _originals.items():
        setattr(BaseSession, name, method)
    _originals.clear()


def _watched_init(init: Callable) -> Callable:
    @functools.wraps(init)
    def watched(self, target='', graph=None, config=None):
        self._session = None  # __del__ asks for it
        config = watch.complete(config)
        watch.open(config)
        init(self, target, graph, _as_told(config))
    return watched


def _as_told(config: tf.ConfigProto) -> tf.ConfigProto:
    """The configuration of the session on the CPU.

    TensorFlow rewrites a graph by the shapes that it knows, and it trusts those of an iterator and
    not those of placeholders. So rounding differs between the two, unless a test switches that off.
    """
    if not os.environ.get('FAKE_NPU_WITHOUT_REWRITES'):
        return config
    plain = tf.ConfigProto()
    plain.CopyFrom(config)
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    return plain


def _watched_run(run: Callable) -> Callable:
    @functools.wraps(run)
    def watched(self, fetches, feed_dict=None, options=None, run_metadata=None):
        seen = _describe(self.graph, fetches, feed_dict or {})
        held = collectives_in(self.graph, seen.reached)

        def carry_out(wanted, feeds):
            if not held:
                return run(self, wanted, feeds, options, run_metadata)
            values = GroupRun(self, wanted, held, seen.reached).run(feeds)
            if all(one.op == 'HcomBroadcast' for one in held):
                record_variables(self, run)
            return values
        loops = [(op, steps) for op, steps in self.graph.get_collection(ITERATIONS)
                 if op in seen.reached]
        for op, steps in loops:
            for _ in range(steps - 1):
                carry_out(op, watch.run(seen))
        return carry_out(fetches, {**(feed_dict or {}), **watch.run(seen)})
    return watched


def _watched_close(close: Callable) -> Callable:
    @functools.wraps(close)
    def watched(self):
        watch.close()
        close(self)
    return watched


def _watched_fork(fork: Callable) -> Callable:
    @functools.wraps(fork)
    def watched():
        watch.fork()
        return fork()
    return watched


def _describe(graph: tf.Graph, fetches, feed_dict: Dict) -> Run:
    handler = _FetchHandler(graph, fetches, {})
    fetched = [*handler.fetches(), *handler.targets()]
    feeds = {graph.as_graph_element(key, allow_operation=False): value
             for key, value in feed_dict.items()}
    ops = [getattr(item, 'op', item) for item in fetched]
    return Run(graph, [item.name for item in fetched],
               {tensor.name: value for tensor, value in feeds.items()},
               reached_ops(ops, [tensor.op for tensor in feeds]))
