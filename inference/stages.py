"""Work in a thread ahead of a loop, and in one behind it, so that the loop only does its own.

What is done in the threads is done in order, a few items at most lie between them and the loop, and
an error in a thread reaches the loop.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Iterable, Iterator, TypeVar

Item = TypeVar('Item')
Made = TypeVar('Made')
# Items between the loop and each of the threads. Images may be large, and two even out the times.
DEPTH = 2


def ahead(function: Callable[[Item], Made], items: Iterable[Item],
          depth: int = DEPTH) -> Iterator[Made]:
    """Applies a function to items in a thread that is ``depth`` items ahead of the consumer.

    Closing the iterator (``contextlib.closing``) ends the thread, when it is done with its item.

    Args:
        function: called in the thread, for one item after the other.
        items: iterated over by the consumer's thread.
        depth: how far the thread runs ahead.

    Yields:
        What the function returns, in the order of the items.

    Raises:
        Exception: what the function raised, in place of what it would have returned.
    """
    pending: Deque[Future] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            for item in items:
                pending.append(thread.submit(function, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class Behind:
    """A function that is called in a thread, in the order in which it is given its arguments.

    Used as a context manager: in the end all calls are done, also when the body raises; after an
    error of the function there are no more calls.
    """

    def __init__(self, function: Callable[..., None], depth: int = DEPTH):
        """Starts the thread.

        Args:
            function: what to call.
            depth: calls that may wait or run while ``put`` returns.
        """
        self._function = function
        self._depth = depth
        self._failed = False
        self._pending: Deque[Future] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def put(self, *arguments: Any) -> None:
        """Has the function called with the arguments; waits while too many calls lie before it.

        Raises:
            Exception: what the function raised in an earlier call.
        """
        self._pending.append(self._thread.submit(self._call, *arguments))
        self._take_finished(self._depth)

    def _call(self, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            self._function(*arguments)
        except BaseException:
            self._failed = True
            raise

    def _take_finished(self, left: int) -> None:
        while len(self._pending) > left or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def __enter__(self) -> 'Behind':
        return self

    def __exit__(self, *exc_info: Any) -> None:
        try:
            self._take_finished(0)
        finally:
            self._thread.shutdown()
