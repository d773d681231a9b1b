"""What joins a worker process to its consumer; all that knows how they speak with one another.

Arrays do not come this way: they lie in the shared slots, and only words are exchanged about them.
The job is pickled by the consumer, which the worker is a part of, and lies in a file: a worker that
is slow to begin, or stopped, keeps nobody waiting. What comes back is JSON: a worker decodes files
of strangers, and shall not be able to make its consumer run anything.
"""

import json
import mmap
import select
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Dict, Tuple

from utils.data_provider.batching import BatchReport
from utils.data_provider.slots import reserve

# A report names each of a batch's images at most; a longer message is none of ours.
_MAX_MESSAGE_BYTES = 2 ** 26


class RemoteError(RuntimeError):
    """An exception in a worker process; its cause holds the traceback from there."""


class _RemoteTrace(Exception):  # noqa: N818 - Python prints it above the RemoteError
    """Shows the traceback where Python prints the cause of an exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def write_job(job: Any) -> int:
    """Writes down what the workers need to begin.

    Args:
        job: anything that can be pickled.

    Returns:
        Descriptor of a nameless file, which workers inherit.

    Raises:
        PSENetError: nowhere is room for it.
    """
    pickled = ForkingPickler.dumps(job)
    descriptor = reserve(len(pickled))
    with mmap.mmap(descriptor, len(pickled)) as memory:
        memory[:] = pickled
    return descriptor


def read_job(descriptor: int) -> Any:
    """Reads, in a worker, what `write_job` wrote."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as memory:
        return ForkingPickler.loads(memory)


class BatchChannel:
    """One end of a socket pair: orders go to the worker, reports or a failure come back.

    Args:
        connection: duplex connection; the channel owns it from now on.
    """

    def __init__(self, connection: Connection):
        self._connection = connection

    def send_order(self, number: int, slot: int) -> None:
        """Asks for a batch by its number, to be laid into a slot."""
        self._connection.send((number, slot))

    def receive_order(self) -> Tuple[int, int]:
        """Waits for number and slot. Raises EOFError or OSError when the consumer is gone."""
        return self._connection.recv()

    def send_report(self, report: BatchReport) -> None:
        """Says that the batch that was asked for lies in its slot."""
        self._send_words({'report': vars(report)})

    def send_failure(self, trace: str) -> None:
        """Sends the traceback, as text, that ends this worker's batches."""
        self._send_words({'failure': trace})

    def _send_words(self, message: Dict[str, Any]) -> None:
        self._connection.send_bytes(json.dumps(message, default=int).encode())

    def receive_report(self) -> BatchReport:
        """Takes the word that the batch asked for is there.

        Raises:
            RemoteError: the worker sent a failure, or what is no report.
            EOFError, OSError: the worker is gone.
        """
        data = self._connection.recv_bytes(_MAX_MESSAGE_BYTES)
        try:
            message = json.loads(data.decode())
        except ValueError as error:
            raise RemoteError('A reader process says what is no report') from error
        if 'failure' in message:
            trace = message['failure']
            reason = trace.rstrip().rsplit('\n', 1)[-1]
            raise RemoteError(f'A reader process failed: {reason}') from _RemoteTrace(trace)
        report = BatchReport()
        vars(report).update(message['report'])
        # JSON has no numbers for keys.
        report.unreadable = {int(index): text for index, text in report.unreadable.items()}
        return report

    def wait(self, seconds: float) -> bool:
        """Whether, within this time, there is something to receive, the other side's end included.

        Args:
            seconds: how long to wait.
        """
        return self._connection.poll(seconds)

    def wait_for_end(self) -> None:
        """Waits until the other side is gone, whatever it says before that."""
        poll = select.poll()
        # Without any event to ask for, the end alone is reported.
        poll.register(self._connection.fileno(), 0)
        poll.poll()

    def close(self) -> None:
        """Lets go of the connection, which the other side takes for the end."""
        self._connection.close()
