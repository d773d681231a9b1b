"""Signals as an orderly end: the step in progress finishes, then training stops.

While the loop waits for data a signal ends it at once. While a step or a checkpoint is being
computed the signal is kept until that is done; a second one, a second or more later, ends the run
without waiting and without saving. A process that trains with others only keeps the signal: the
loop tells the others with the next step, and all of them stop after it.
"""

import signal
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from utils.utils_tool import STOP_SIGNALS, logger

# timeout(1) signals its child and then the child's whole group: one wish, two signals.
SAME_WISH_SECONDS = 1.0


class StopTraining(BaseException):
    """Raised where training can stop, after a signal asked for it.

    As KeyboardInterrupt, it is not an error, and ``except Exception`` must not swallow it.
    """

    def __init__(self, signum: int, at_once: bool = False):
        """Keeps what the signal asks for.

        Args:
            signum: the signal's number.
            at_once: it was not the first: there is no time to save anything.
        """
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum
        self.at_once = at_once


class GracefulStop:
    """Context manager that turns STOP_SIGNALS into StopTraining; main thread only.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """

    def __init__(self, alone: bool = True) -> None:
        """Takes whether this process trains alone; otherwise the first signal raises nothing."""
        self.alone = alone
        self._pending: Optional[int] = None
        self._first_at = 0.0
        self._deferred = False
        self._previous = {}

    def __enter__(self) -> 'GracefulStop':
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._previous = {signum: signal.signal(signum, self._handle) for signum in STOP_SIGNALS
                          if signum != signal.SIGHUP or not ignored}
        return self

    def __exit__(self, *exc_info) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, _frame) -> None:
        now = time.monotonic()
        if self._pending is not None:
            if now - self._first_at < SAME_WISH_SECONDS:
                return
            raise StopTraining(signum, at_once=True)
        self._pending, self._first_at = signum, now
        if self.alone and not self._deferred:
            raise StopTraining(signum)
        logger.warning('%s: finishing the step in progress, then saving; once more to stop without',
                       signal.Signals(signum).name)

    @property
    def wanted(self) -> bool:
        """Whether a signal has asked for the end."""
        return self._pending is not None

    def raise_agreed(self) -> None:
        """Raises StopTraining, for a signal that this process or another has got."""
        raise StopTraining(self._pending or signal.SIGTERM)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keeps signals until the body is done, then raises StopTraining if there was one."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.alone and self.wanted:
            raise StopTraining(self._pending)
