"""Waiting for what a worker process makes, for as long as it may still come.

A worker that works is slow, and is waited for. One that was killed, or that has not computed
anything for a while, is lost: stopped, or before a file that does not answer. Its batch may be
given to another, for a batch depends on its number alone.
"""

import contextlib
import itertools
import signal
import subprocess
import time
from typing import Iterator, NamedTuple

from utils.data_provider.batching import BatchReport
from utils.data_provider.transport import BatchChannel
from utils.errors import PSENetError
from utils.utils_tool import logger

EXIT_SECONDS = 5
_POLL_SECONDS = 1
_NOTICE_SECONDS = 30
# Nothing takes so long to make, whatever the worker may be computing.
_LONGEST_SECONDS = 600
# clock_getcpuclockid(3): the clock that counts what all threads of a process compute.
_PROCESS_CLOCK = 2


class WorkerError(PSENetError):
    """A reader process that is gone."""


class LostWorkerError(WorkerError):
    """A reader process that is stuck or was killed; another may do better."""


class Worker(NamedTuple):
    """A worker process, as its consumer has it."""

    process: subprocess.Popen
    channel: BatchChannel


def receive_report(worker: Worker, number: int, patience: float) -> BatchReport:
    """Waits for the word that a worker has made the batch that it is at.

    Args:
        worker: that has the order.
        number: of the batch, for messages.
        patience: seconds without anything computed after which the worker is lost.

    Raises:
        LostWorkerError: the worker was killed, or is stuck.
        WorkerError: it ended by itself.
        RemoteError: it failed; the traceback from there is the cause.
    """
    _wait_for(worker, number, patience)
    with death_explained(worker):
        return worker.channel.receive_report()


def _wait_for(worker: Worker, number: int, patience: float) -> None:
    computed, since = _computed_seconds(worker), 0.0
    # Polls are counted, not the clock's seconds: this process may have been stopped with the other.
    for waited in itertools.count(_POLL_SECONDS, _POLL_SECONDS):
        if worker.channel.wait(_POLL_SECONDS):
            return
        before, computed = computed, _computed_seconds(worker)
        if computed > before:
            since = waited
        if waited - since >= patience or waited >= _LONGEST_SECONDS:
            raise LostWorkerError(
                f'A reader process (id {worker.process.pid}) is stuck: batch {number} has been '
                f'awaited from it for {waited:g} seconds, and it did nothing in the last '
                f'{waited - since:g}; see whether the folder of the training data can be read.')
        if waited % _NOTICE_SECONDS == 0:
            logger.warning('Batch %d has been awaited for %d seconds from the reader with '
                           'process id %d.', number, waited, worker.process.pid)


def _computed_seconds(worker: Worker) -> float:
    try:
        return time.clock_gettime(~worker.process.pid << 3 | _PROCESS_CLOCK)
    except OSError:
        # It is gone, which the channel reports.
        return 0.0


@contextlib.contextmanager
def death_explained(worker: Worker) -> Iterator[None]:
    """Turns the end of a connection into an account of what became of the process."""
    try:
        yield
    except (EOFError, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(EXIT_SECONDS)
        raise _account_of_death(worker.process) from None


def _account_of_death(process: subprocess.Popen) -> WorkerError:
    code = process.poll()
    if code is not None and code < 0:
        # Not Signals(-code): most real-time signals have no name there.
        name = {known.value: known.name for known in signal.Signals}.get(-code, f'signal {-code}')
        return LostWorkerError(
            f'A reader process (id {process.pid}) was killed by {name}; where nobody did that, '
            'memory ran out: lower --num_readers or the batch size.')
    return WorkerError(f'A reader process (id {process.pid}) ended by itself with exit code '
                       f'{code}; what it wrote to the error output says why.')
