"""The network's thread: one call after the other, few that wait, and none for those who have left.

TensorFlow takes all cores for one image, so two at once would only make both late.
"""

import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from typing import Any, Callable, Deque, Optional, Tuple

# How often somebody who waits is looked for.
_LOOK_SECONDS = 0.2

Job = Tuple[Future, Callable[[], Any]]


class QueueFullError(Exception):
    """As many calls wait as may; ``seconds`` is after how long a place should be free."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


class ClosedError(Exception):
    """The thread is ending."""


class Jobs:
    """A thread that calls functions in the order of their arrival."""

    def __init__(self, queue_size: int):
        """Starts the thread.

        Args:
            queue_size: how many calls may wait while one is at work; 0 for none.
        """
        self._queue_size = queue_size
        self._waiting: Deque[Job] = deque()
        self._at_work = False
        self._closed = False
        self._last_seconds = 1.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name='network', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def run(self, function: Callable[[], Any], abandoned: Callable[[], bool]) -> Any:
        """Has a function called when its turn comes, and waits for what it returns.

        Args:
            function: called in the thread.
            abandoned: asked from time to time whether the answer is still wanted.

        Returns:
            What the function returned.

        Raises:
            QueueFullError: at once, when too many wait.
            AbandonedError: the answer is not wanted; a call that waited is dropped.
            ClosedError: the thread is ending.
            Exception: what the function raised.
        """
        future = self._submit(function)
        while not wait([future], _LOOK_SECONDS).done:
            if abandoned():
                self._drop(future)
                raise AbandonedError
        return future.result()

    def close(self, seconds: float) -> bool:
        """Drops what waits and ends the thread after the call that is at work.

        Args:
            seconds: how long to wait for that.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._closed = True
            for future, _ in self._waiting:
                future.set_exception(ClosedError())
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _submit(self, function: Callable[[], Any]) -> Future:
        with self._changed:
            if self._closed:
                raise ClosedError
            before = len(self._waiting) + self._at_work
            if before > self._queue_size:
                raise QueueFullError(before * self._last_seconds)
            future: Future = Future()
            self._waiting.append((future, function))
            self._changed.notify_all()
            return future

    def _drop(self, future: Future) -> None:
        with self._changed:
            self._waiting = deque(job for job in self._waiting if job[0] is not future)

    def _work(self) -> None:
        job = self._next()
        while job is not None:
            self._call(*job)
            job = self._next()

    def _next(self) -> Optional[Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._at_work = True
            return self._waiting.popleft()

    def _call(self, future: Future, function: Callable[[], Any]) -> None:
        start = time.perf_counter()
        try:
            answer, error = function(), None
        except BaseException as raised:  # the one who waits gets it
            answer, error = None, raised
        with self._changed:
            self._at_work = False
            self._last_seconds = time.perf_counter() - start
        # The next request of whoever gets this answer finds the place free.
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
