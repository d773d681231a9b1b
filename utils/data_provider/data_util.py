"""Worker processes that make batches.

Each worker is a fresh interpreter that imports this package and nothing of the program that
started it: no fork of a process that holds a device or threads, no second run of a script without a
guard, no TensorFlow. (The spawn method of multiprocessing would import the main script, and leaves
a tracker process behind.) A socket pair joins it to its consumer, and a worker ends when the other
end is gone, for whatever reason; that, and not Ctrl-C, is what ends it.

Worker w of W makes the batches first + w, first + w + W, ...; the consumer takes them in order. A
worker that is ahead blocks with one batch finished, which bounds what is held in memory.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from typing import Callable, Iterator, List, NamedTuple

import cv2

from utils.data_provider.batching import PackedBatch
from utils.data_provider.transport import BatchChannel
from utils.errors import PSENetError
from utils.utils_tool import logger

# Each holds an interpreter and a batch; no device trains faster than so many can read.
MAX_WORKERS = 16

_POLL_SECONDS = 1
_NOTICE_SECONDS = 30
_EXIT_SECONDS = 5
# NumPy's libraries would start a thread a core in every worker.
_ONE_THREAD = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
# Its arguments: the socket, then the module search path of the consumer.
_BOOTSTRAP = ('import sys; sys.path[:] = sys.argv[2:]; '
              'from utils.data_provider.data_util import worker_main; '
              'worker_main(int(sys.argv[1]))')


class WorkerError(PSENetError):
    """A reader process that is gone."""


class _Worker(NamedTuple):
    process: subprocess.Popen
    channel: BatchChannel


class WorkerPool:
    """Workers that make batches side by side, and the batches in order.

    Args:
        build: makes a batch by its number; pickled, from a module that can be imported without
            TensorFlow.
        num_workers: processes, at least 1.
        first: number of the first batch.
    """

    def __init__(self, build: Callable[[int], PackedBatch], num_workers: int, first: int = 0):
        self._first = self._next = first
        self._workers: List[_Worker] = []
        # Also called when the pool is forgotten, and when the program ends.
        self._stop = weakref.finalize(self, _stop_workers, self._workers, os.getpid())
        try:
            self._start(build, num_workers)
        except BaseException:
            self._stop()
            raise

    def _start(self, build: Callable[[int], PackedBatch], num_workers: int) -> None:
        for _ in range(num_workers):
            self._workers.append(_start_worker())
        for offset, worker in enumerate(self._workers):
            with self._death_explained(worker):
                worker.channel.send_job((build, self._first + offset, num_workers))

    def get(self) -> PackedBatch:
        """Waits for the next batch.

        Raises:
            WorkerError: a worker is gone.
            RemoteError: a worker failed; the traceback from there is the cause.
        """
        worker = self._workers[(self._next - self._first) % len(self._workers)]
        self._wait_for(worker)
        with self._death_explained(worker):
            batch = worker.channel.receive_batch()
        self._next += 1
        return batch

    def close(self) -> None:
        """Ends the workers; can be called any number of times."""
        self._stop()

    def _wait_for(self, worker: _Worker) -> None:
        for waited in itertools.count(_POLL_SECONDS, _POLL_SECONDS):
            if worker.channel.wait(_POLL_SECONDS):
                return
            for other in self._workers:
                if other.process.poll() is not None:
                    raise WorkerError(_describe_death(other.process))
            if waited % _NOTICE_SECONDS == 0:
                logger.warning('Batch %d has been awaited for %d seconds from the reader with '
                               'process id %d.', self._next, waited, worker.process.pid)

    @staticmethod
    @contextlib.contextmanager
    def _death_explained(worker: _Worker) -> Iterator[None]:
        """Turns the end of a connection into an account of what became of the process."""
        try:
            yield
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(_EXIT_SECONDS)
            raise WorkerError(_describe_death(worker.process)) from None


def worker_main(descriptor: int) -> None:
    """What a worker process runs, to its end.

    Args:
        descriptor: file descriptor of its end of the socket pair.
    """
    cv2.setNumThreads(1)
    channel = BatchChannel(Connection(descriptor))
    try:
        build, first, step = channel.receive_job()
        threading.Thread(target=_exit_with_consumer, args=(channel,), daemon=True).start()
        for number in itertools.count(first, step):
            channel.send_batch(build(number))
    except Exception:  # whatever it is, the consumer shall see it
        with contextlib.suppress(OSError):
            channel.send_failure(traceback.format_exc())
    # Alive until the failure has been read: a process that is gone would be reported instead.
    _exit_with_consumer(channel)


def _exit_with_consumer(channel: BatchChannel) -> None:
    """Ends this process, in the middle of a batch if need be, when the other end is gone."""
    # The consumer says nothing after the job: all that can be received is its end.
    channel.wait(None)
    os._exit(0)


def _start_worker() -> _Worker:
    ours, theirs = Pipe()
    with theirs, _signals_held_back():
        process = subprocess.Popen(
            [sys.executable, '-c', _BOOTSTRAP, str(theirs.fileno()), *sys.path],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            env={**_ONE_THREAD, **os.environ})
    return _Worker(process, BatchChannel(ours))


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Blocks what a terminal or a scheduler sends to the whole group; processes inherit the mask.

    The consumer answers those signals, saves what it has to, and then ends its workers. Blocking
    holds from the first instruction of the new process, which a handler of its own would not.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _stop_workers(workers: List[_Worker], owner: int) -> None:
    # A forked copy of the consumer must not end the workers of the original.
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.channel.close()
        worker.process.kill()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(_EXIT_SECONDS)


def _describe_death(process: subprocess.Popen) -> str:
    code = process.poll()
    if code is not None and code < 0:
        # Not Signals(-code): most real-time signals have no name there.
        name = {known.value: known.name for known in signal.Signals}.get(-code, f'signal {-code}')
        return (f'A reader process (id {process.pid}) was killed by {name}; '
                'where nobody did that, memory ran out: lower --num_readers or the batch size.')
    return (f'A reader process (id {process.pid}) ended by itself with exit code {code}; '
            'what it wrote to the error output says why.')
