"""Ctrl-C and SIGTERM as an orderly end: the step in progress finishes, then training stops.

While the loop waits for data a signal ends it at once. While a step or a checkpoint is being
computed the signal is kept until that is done; a second one then no longer waits.
"""

import signal
from contextlib import contextmanager
from typing import Iterator, Optional

from utils.utils_tool import logger


class StopTraining(Exception):  # noqa: N818 - no error: somebody asked for it
    """Raised where training can stop, after a signal asked for it."""

    def __init__(self, signum: int):
        """Keeps the signal's number."""
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class GracefulStop:
    """Context manager that turns SIGINT and SIGTERM into StopTraining; main thread only."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._pending: Optional[int] = None
        self._deferred = False
        self._previous = {}

    def __enter__(self) -> 'GracefulStop':
        self._previous = {signum: signal.signal(signum, self._handle) for signum in self.SIGNALS}
        return self

    def __exit__(self, *exc_info) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, _frame) -> None:
        if not self._deferred or self._pending is not None:
            raise StopTraining(signum)
        self._pending = signum
        logger.warning('%s: finishing the step in progress, then saving; once more to stop without',
                       signal.Signals(signum).name)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keeps signals until the body is done, then raises StopTraining if there was one."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._pending is not None:
            raise StopTraining(self._pending)
