"""The side of the exchange of every rank but 0."""

import time
from multiprocessing.connection import Client, Connection
from typing import List

import numpy as np

from fake_npu.exchange import Call, ExchangeError, until

# What a rank gives rank 0 beyond the time-out to say whom it has waited for.
_GRACE_SECONDS = 10.0


class Link:
    """The side of every other rank."""

    def __init__(self, address: str, rank: int, size: int, timeout: float):
        """Looks for rank 0 until the time-out.

        Raises:
            ExchangeError: it did not come.
        """
        self._timeout = timeout
        self._connection: Connection = until(
            time.monotonic() + timeout, lambda: _introduce(address, rank, size))

    def close(self) -> None:
        """Leaves the job."""
        self._connection.close()

    def call(self, call: Call) -> List[np.ndarray]:
        """Takes part in a collective.

        Returns:
            This rank's results.

        Raises:
            ExchangeError: a rank has ended, did not come in time, or runs something else.
        """
        try:
            self._connection.send(call)
            if not self._connection.poll(self._timeout + _GRACE_SECONDS):
                raise ExchangeError(f'time-out on {call.label}: rank 0 did not come within '
                                    f'{self._timeout:g} s')
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise ExchangeError(f'{call.label}: rank 0 has ended') from None
        if isinstance(answer, ExchangeError):
            raise answer
        return answer


def _introduce(address: str, rank: int, size: int) -> Connection:
    connection = Client(address, 'AF_UNIX')
    try:
        connection.send((rank, size))
        known = connection.recv()
    except EOFError:
        known = False
    if not known:
        connection.close()
        raise ConnectionRefusedError('it is rank 0 of another job')
    return connection
