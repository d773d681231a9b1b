"""Signals: training finishes the step in progress, saves, and stops.

While the loop waits for data, a signal stops it immediately. During a step or a save, the signal is
deferred; a second signal, a second or more later, ends the run without waiting or saving. A process
that trains with others always defers the signal: the loop announces it to the others in the next
step, and all of them stop after it.
"""

import signal
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from utils.utils_tool import STOP_SIGNALS, logger

# timeout(1) signals its child and then the child's process group: two signals for one request.
SAME_REQUEST_SECONDS = 1.0


class StopTraining(BaseException):
    """Raised after a signal, at a point where training can stop.

    Like KeyboardInterrupt it is not an error, and ``except Exception`` must not catch it.
    """

    def __init__(self, signum: int, at_once: bool = False):
        """Stores the arguments.

        Args:
            signum: number of the signal.
            at_once: it was the second signal: stop without saving.
        """
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum
        self.at_once = at_once


class GracefulStop:
    """Context manager that turns STOP_SIGNALS into StopTraining; main thread only.

    If SIGHUP is ignored, as under nohup, it stays ignored.
    """

    def __init__(self, alone: bool = True) -> None:
        """Stores whether this process trains alone; if not, the first signal raises nothing."""
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
            if now - self._first_at < SAME_REQUEST_SECONDS:
                return
            raise StopTraining(signum, at_once=True)
        self._pending, self._first_at = signum, now
        if self.alone and not self._deferred:
            raise StopTraining(signum)
        logger.warning('%s: finishing the step in progress and saving; repeat to stop without '
                       'saving', signal.Signals(signum).name)

    @property
    def wanted(self) -> bool:
        """True after a signal."""
        return self._pending is not None

    def raise_agreed(self) -> None:
        """Raises StopTraining, for a signal to this process or another."""
        raise StopTraining(self._pending or signal.SIGTERM)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers signals until the body has finished, then raises StopTraining if there was one."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.alone and self.wanted:
            raise StopTraining(self._pending)
