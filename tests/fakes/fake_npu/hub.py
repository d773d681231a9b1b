"""Rank 0's side of the exchange: gathers the ranks' calls, combines, and hands out the results."""

import contextlib
import os
import socket
import threading
import time
from multiprocessing.connection import Connection
from typing import Dict, List, Optional

import numpy as np

from fake_npu.exchange import Call, ExchangeError, combine, until


class Hub:
    """Rank 0's side: every rank's call, and what comes of them."""

    def __init__(self, address: str, size: int, timeout: float):
        """Begins to listen.

        Args:
            address: see ``address_of``.
            size: number of ranks.
            timeout: seconds that a rank waits for the others.
        """
        self._size = size
        self._timeout = timeout
        self._changed = threading.Condition()
        self._calls: Dict[int, Call] = {}
        self._results: Dict[int, List[np.ndarray]] = {}
        self._undelivered = set()
        self._come = set()
        self._gone = set()
        self._fault: Optional[str] = None
        self._peers: List[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        until(time.monotonic() + timeout, lambda: self._listener.bind(address))
        self._listener.listen(size)
        threading.Thread(target=self._welcome, daemon=True).start()

    def close(self) -> None:
        """Lets go of all ranks and takes no further ones."""
        for own in [self._listener, *self._peers]:
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)
            own.close()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._peers.append(peer)
                threading.Thread(target=self._serve, args=(Connection(os.dup(peer.fileno())),),
                                 daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        rank = None
        with contextlib.suppress(EOFError, OSError), connection:
            newcomer, size = connection.recv()
            with self._changed:
                # Otherwise it is of another job, whose own rank 0 has yet to come.
                known = newcomer not in self._come and size == self._size
                self._come |= {newcomer} if known else set()
            connection.send(known)
            if not known:
                return
            rank = newcomer
            while True:
                connection.send(self._answer(rank, connection.recv()))
                self._delivered(rank)
        if rank is not None:
            self._leave(rank)

    def _answer(self, rank: int, call: Call):
        try:
            return self._take(rank, call)
        except ExchangeError as error:
            return error

    def call(self, call: Call) -> List[np.ndarray]:
        """Rank 0's own part; returns when every other rank has its result, or has been told.

        Raises:
            ExchangeError: see ``Link.call``.
        """
        try:
            return self._take(0, call)
        finally:
            self._delivered(0)
            with self._changed:
                self._changed.wait_for(lambda: not self._undelivered, self._timeout)

    def _take(self, rank: int, call: Call) -> List[np.ndarray]:
        with self._changed:
            self._calls[rank] = call
            self._settle()
            if not self._changed.wait_for(lambda: rank in self._results or self._fault,
                                          self._timeout):
                self._fail(f'time-out on {call.label}: {self._missing(call)} did not come within '
                           f'{self._timeout:g} s')
            if rank not in self._results:
                raise ExchangeError(self._fault)
            return self._results.pop(rank)

    def _settle(self) -> None:
        """Completes the collectives in which all take part, and finds those that nobody can."""
        for call in list(self._calls.values()):
            met = {rank: self._calls[rank] for rank in call.members if self._meets(rank, call)}
            if len(met) == len(call.members):
                self._complete(call, met)
        for call in self._calls.values():
            lost = [rank for rank in call.members if rank in self._gone]
            if lost:
                self._fail(f'{call.label}: rank {lost[0]} has ended')
        if len(self._calls) == self._size:
            self._fail('the ranks run different collectives: %s' % '; '.join(
                f'rank {rank} {self._calls[rank].description()}'
                for rank in sorted(self._calls)))

    def _meets(self, rank: int, call: Call) -> bool:
        return rank in self._calls and (self._calls[rank].description() == call.description())

    def _complete(self, call: Call, met: Dict[int, Call]) -> None:
        given = {rank: own.arrays for rank, own in met.items()}
        for rank in met:
            self._results[rank] = combine(call.op, dict(call.settings), given, rank)
            self._undelivered.add(rank)
            del self._calls[rank]
        self._changed.notify_all()

    def _missing(self, call: Call) -> str:
        return ' and '.join(
            'rank %d%s' % (rank, f', which waits in {self._calls[rank].description()},'
                           if rank in self._calls else '')
            for rank in call.members if not self._meets(rank, call))

    def _fail(self, fault: str) -> None:
        if self._fault is None:
            self._fault = fault
            self._undelivered |= set(self._calls)
        self._changed.notify_all()

    def _delivered(self, rank: int) -> None:
        with self._changed:
            self._undelivered.discard(rank)
            self._changed.notify_all()

    def _leave(self, rank: int) -> None:
        with self._changed:
            self._gone.add(rank)
            self._undelivered.discard(rank)
            self._settle()
