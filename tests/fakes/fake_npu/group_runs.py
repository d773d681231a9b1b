"""Runs of a session that hold collectives: computed up to them, exchanged, fed back, gone on with.

TensorFlow computes in no fixed order and with few threads, so an op that waited for other ranks
could keep the very op from running that they wait for. A partial run stops at all collectives that
can be reached, and this rank takes part in one after the other, in the order of the graph.
"""

import atexit
import collections
import os
from typing import Any, Dict, FrozenSet, Iterable, List

import numpy as np
import tensorflow as tf
from tensorflow.python.client.session import BaseSession, _FetchHandler

from fake_npu import environment
from fake_npu.collectives import Collective
from fake_npu.exchange import Call, ExchangeError, address_of
from fake_npu.hub import Hub
from fake_npu.link import Link

TIMEOUT = 'FAKE_NPU_COLLECTIVE_TIMEOUT'
_DEFAULT_SECONDS = 300.0
Feeds = Dict[tf.Tensor, Any]


class Group:
    """This process among the ranks; it meets them when the first collective is run."""

    def __init__(self):
        self._peers = None
        self._numbers = collections.Counter()

    def exchange(self, collective: Collective, arrays: List[np.ndarray]) -> List[np.ndarray]:
        """Takes part in a collective.

        Raises:
            InternalError: it did not come about; the message names it and the rank at fault.
        """
        op = collective.given[0].op
        try:
            return self._connected().call(self._call(collective, arrays))
        except ExchangeError as error:
            raise tf.errors.InternalError(op.node_def, op, str(error)) from None

    def leave(self) -> None:
        """Tells the others that this process takes part no more."""
        if self._peers is not None:
            self._peers.close()
        self._peers = None

    def _connected(self):
        if self._peers is None:
            rank, size = environment.rank(), environment.rank_size()
            timeout = float(os.environ.get(TIMEOUT) or _DEFAULT_SECONDS)
            address = address_of(os.environ['JOB_ID'], environment.meeting_place())
            self._peers = (Link(address, rank, size, timeout) if rank
                           else Hub(address, size, timeout))
            atexit.register(self.leave)
        return self._peers

    def _call(self, collective: Collective, arrays: List[np.ndarray]) -> Call:
        # A send and its receive are one exchange, under names of their own.
        one_way = 'src_rank' in dict(collective.settings)
        op = 'HcomSend to HcomReceive' if one_way else collective.op
        self._numbers[op] += 1
        return Call(
            op, '' if one_way else collective.given[0].op.name,
            op if one_way else f'{op} #{self._numbers[op]}',
            collective.settings,
            tuple(f'{tensor.dtype.name} {tensor.shape}' for tensor in collective.given),
            collective.members(), arrays if collective.gives() else [])


group = Group()
_plans: Dict[FrozenSet[tf.Operation], List[List[Collective]]] = {}


class GroupRun:
    """One run."""

    def __init__(self, session: BaseSession, fetches, held: List[Collective],
                 reached: FrozenSet[tf.Operation]):
        """Plans it.

        Args:
            session: where it takes place.
            fetches: of any structure.
            held: the run's collectives.
            reached: the ops that it executes.
        """
        self._session = session
        self._handler = _FetchHandler(session.graph, fetches, {})
        if reached not in _plans:
            _plans[reached] = _stages(held, reached)
        self._stages = _plans[reached]
        self._reached = reached
        self._fetched = set(self._handler.fetches())
        self._values: Dict[tf.Tensor, Any] = {}

    def run(self, feeds: Feeds) -> Any:
        """Runs, and returns what ``session.run`` would."""
        stops = [tensor for stage in self._stages for one in stage for tensor in one.given]
        fed = {tensor for stage in self._stages for one in stage for tensor in self._needed(one)}
        wanted = [tensor for tensor in _distinct([*stops, *self._handler.fetches()])
                  if tensor not in fed]
        handle = self._session.partial_run_setup([*wanted, *self._handler.targets()],
                                                 [*feeds, *fed])
        for stage in self._stages:
            self._go_on(handle, [tensor for one in stage for tensor in one.given], feeds)
            feeds = {}
            for one in stage:
                # One after the other goes back at once: all variables together are large.
                results = group.exchange(one, [self._take(tensor) for tensor in one.given])
                self._go_on(handle, [], {
                    tensor: result for tensor, result in zip(one.received, results)
                    if tensor in fed})
        self._go_on(handle, self._handler.fetches(), feeds)
        return self._handler.build_results(
            self._session, [self._values[tensor] for tensor in self._handler.fetches()])

    def _needed(self, collective: Collective) -> List[tf.Tensor]:
        return [tensor for tensor in collective.received if tensor.op in self._reached]

    def _take(self, tensor: tf.Tensor) -> np.ndarray:
        value = self._values[tensor]
        if tensor not in self._fetched:
            del self._values[tensor]
        return value

    def _go_on(self, handle: str, tensors: Iterable[tf.Tensor], feeds: Feeds) -> None:
        self._values.update((tensor, value) for tensor, value in feeds.items()
                            if tensor in self._fetched)
        missing = [tensor for tensor in _distinct(tensors) if tensor not in self._values]
        if missing or feeds:
            values = self._session.partial_run(handle, missing, feeds)
            self._values.update(zip(missing, values))


def _distinct(tensors: Iterable[tf.Tensor]) -> List[tf.Tensor]:
    return list(dict.fromkeys(tensors))


def _stages(held: List[Collective], reached: FrozenSet[tf.Operation]) -> List[List[Collective]]:
    """The collectives by how many others lie before them, at most."""
    depths = _depths(reached, {tensor.op for one in held for tensor in one.received})
    stages = collections.defaultdict(list)
    for one in held:
        stages[depths[one.given[0].op]].append(one)
    return [stages[depth] for depth in sorted(stages)]


def _depths(reached: FrozenSet[tf.Operation], received: Iterable[tf.Operation]
            ) -> Dict[tf.Operation, int]:
    """For each op, how many collectives lie before it in the longest chain."""
    depths: Dict[tf.Operation, int] = {}
    waiting = list(reached)
    begun = set()
    while waiting:
        op = waiting[-1]
        sources = {tensor.op for tensor in op.inputs} | set(op.control_inputs)
        unknown = [source for source in sources
                   if source in reached and source not in depths and source not in begun]
        begun.add(op)
        if unknown and op not in depths:
            waiting.extend(unknown)
            continue
        waiting.pop()
        if op not in depths:
            # A source without a depth is the back edge of a loop.
            depths[op] = max((depths.get(source, 0) + (source in received)
                              for source in sources), default=0)
    return depths
