"""Reader processes that make batches side by side, in slots of shared memory that are used again.

Each worker is a fresh interpreter that imports this package and nothing of the program that
started it: no fork of a process that holds a device or threads, no second run of a script without a
guard, no TensorFlow. (The spawn method of multiprocessing would import the main script, and leaves
a tracker process behind.) A socket pair joins it to its consumer, and a worker ends when the other
end is gone, for whatever reason; that, and not Ctrl-C, is what ends it.

Worker w of W makes the batches first + w, first + w + W, ...; the consumer takes them in order. It
orders each in a slot, the next of a worker when it has taken the last: a worker that is ahead waits
with one batch finished, and the slots bound what is held in memory. A worker that works is slow,
and is waited for. One that was killed, or has not computed anything for a while (it is stopped, or
before a file that does not answer), is replaced, and its batch made anew, in the same slot: a batch
depends on its number alone.

The slots lie in a file without a name, whose pages are all set aside before anything is written: a
file system that runs out of room (containers give /dev/shm 64 MB) says so at the start, in a
sentence, and does not end a process with SIGBUS later. Behind them lies the job, pickled by the
consumer: a worker that is slow to begin keeps nobody waiting. What comes back over the socket is
JSON: a worker decodes files of strangers, and shall not be able to make its consumer run anything.
"""

import collections
import contextlib
import itertools
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np

from utils.data_provider.batching import BatchArrays, BatchLayout, BatchReport
from utils.errors import PSENetError
from utils.utils_tool import STOP_SIGNALS, logger

# Each holds an interpreter and a batch; no device trains faster than so many can read.
MAX_WORKERS = 16
EXIT_SECONDS = 5
# Slots beside those that workers fill: the batch that is in use, and the one that comes after it.
_SPARE_SLOTS = 2
# Seconds without anything computed after which a worker, and those that replace it, count as stuck:
# the first is soon found, and a file server that is away for minutes is outlasted.
_PATIENCE_SECONDS = (20, 60, 180)
_POLL_SECONDS = 1
_NOTICE_SECONDS = 30
# Nothing takes so long to make, whatever the worker may be computing.
_LONGEST_SECONDS = 600
# A report names each of a batch's images at most; a longer message is not ours.
_MAX_MESSAGE_BYTES = 2 ** 26
# clock_getcpuclockid(3): the clock that counts what all threads of a process compute.
_PROCESS_CLOCK = 2
# A file system in memory, on every Linux.
_MEMORY_FOLDER = '/dev/shm'  # nosec B108 # noqa: S108 - files there get no name
# NumPy's libraries would start a thread a core in every worker, and the C library would return the
# memory of each image to the system, and fetch it anew, page by page, for the next. (Older ones
# take no threshold beyond 32 MB.)
_ENVIRONMENT = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
                'MALLOC_MMAP_THRESHOLD_': str(2 ** 25), 'MALLOC_TRIM_THRESHOLD_': str(2 ** 27)}
# Its arguments: the socket, the memory, where the job begins in it, then the consumer's module
# search path.
_BOOTSTRAP = ('import sys; sys.path[:] = sys.argv[4:]; '
              'from utils.data_provider.readers import worker_main; '
              'worker_main(*map(int, sys.argv[1:4]))')
# Makes a batch by its number, into arrays.
Build = Callable[[int, BatchArrays], BatchReport]


class WorkerError(PSENetError):
    """A reader process that is gone."""


class LostWorkerError(WorkerError):
    """A reader process that is stuck or was killed; another may do better."""


class RemoteError(RuntimeError):
    """An exception in a worker process; its cause holds the traceback from there."""


class _RemoteTrace(Exception):  # noqa: N818 - Python prints it above the RemoteError
    """Shows the traceback where Python prints the cause of an exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class _Worker(NamedTuple):
    """The consumer's side of a worker process."""

    process: subprocess.Popen
    connection: Connection


class WorkerPool:
    """Workers that make batches side by side, and the batches in order.

    Args:
        build: makes a batch by its number; pickled, from a module that can be imported without
            TensorFlow.
        layout: the shapes of a batch.
        num_workers: processes, at least 1.
        first: number of the first batch.

    Raises:
        PSENetError: nowhere is room for the slots.
    """

    def __init__(self, build: Build, layout: BatchLayout, num_workers: int, first: int = 0):
        self._first = self._next = first
        self._layout = layout
        num_slots = num_workers + _SPARE_SLOTS
        job = pickled((build, layout))
        self._job_at = num_slots * layout.num_bytes
        self._descriptor = reserve(self._job_at + len(job))
        self._memory = mmap.mmap(self._descriptor, 0)
        self._memory[self._job_at:] = job
        self._free: Deque[int] = collections.deque(range(num_slots))
        self._ordered: Dict[int, int] = {}      # slot by number of a batch
        self._workers: List[_Worker] = []
        # Also called when the pool is forgotten, and when the program ends.
        self._stop = weakref.finalize(self, _stop, self._workers, self._descriptor, os.getpid())
        try:
            # All of them, before the first is waited for.
            for _ in range(num_workers):
                self._workers.append(_start_worker(self._descriptor, self._job_at))
            for number in range(first, first + num_workers):
                self._order(number)
        except BaseException:
            self._stop()
            raise

    def get(self) -> Tuple[BatchReport, BatchArrays]:
        """Waits for the next batch.

        Returns:
            The account of it, and its arrays: in a slot, which is used anew once nothing refers to
            them any more, or, where no other slot is free, in memory of their own.

        Raises:
            WorkerError: a worker ended by itself, or was lost and so were those that replaced it.
            RemoteError: a worker failed; the traceback from there is the cause.
        """
        report = self._receive()
        slot = self._ordered.pop(self._next)
        memory = slot_memory(self._memory, self._layout, slot)
        if self._free:
            # Views of an array refer to the array that owns the memory, or, as here, to the one
            # that got it from elsewhere; so this one outlives them all. The finalizer may run on
            # any thread, in the middle of anything: all it does is append.
            weakref.finalize(memory, self._free.append, slot).atexit = False
        else:
            # Whoever keeps batches must not stop the workers.
            memory = memory.copy()
            self._free.append(slot)
        arrays = self._layout.place(memory)
        del memory
        self._order(self._next + len(self._workers))
        self._next += 1
        return report, arrays

    def _receive(self) -> BatchReport:
        """The report of the next batch, from whichever worker gets done with it."""
        *early, last = _PATIENCE_SECONDS
        for patience in early:
            try:
                return _receive_report(self._worker_of(self._next), self._next, patience)
            except LostWorkerError as error:
                logger.warning('%s; another one makes batch %d', error, self._next)
            place = self._place_of(self._next)
            # Ended first: what it was writing into the slot must not mix with what comes.
            _end_workers([self._workers[place]])
            self._workers[place] = _start_worker(self._descriptor, self._job_at)
            self._send_order(self._next)
        return _receive_report(self._worker_of(self._next), self._next, last)

    def _place_of(self, number: int) -> int:
        return (number - self._first) % len(self._workers)

    def _worker_of(self, number: int) -> _Worker:
        return self._workers[self._place_of(number)]

    def _order(self, number: int) -> None:
        self._ordered[number] = self._free.popleft()
        self._send_order(number)

    def _send_order(self, number: int) -> None:
        # A worker that is gone is noticed when its batch is due.
        with contextlib.suppress(OSError):
            self._worker_of(number).connection.send_bytes(
                json.dumps([number, self._ordered[number]]).encode())

    def close(self) -> None:
        """Ends the workers; can be called any number of times."""
        self._stop()


def pickled(job: Any) -> bytes:
    """The job for the workers, which are started by this process and a part of it."""
    return bytes(ForkingPickler.dumps(job))


def unpickled(job: bytes) -> Any:
    """The job, in a worker."""
    return ForkingPickler.loads(job)


def slot_memory(memory: mmap.mmap, layout: BatchLayout, slot: int) -> np.ndarray:
    """uint8 (layout.num_bytes,): a slot, which lives at least as long as this array."""
    return np.frombuffer(memory, np.uint8, layout.num_bytes, slot * layout.num_bytes)


def reserve(size: int) -> int:
    """Creates an anonymous file with its space allocated.

    Args:
        size: in bytes.

    Returns:
        Its descriptor.

    Raises:
        PSENetError: nowhere is room for so much.
    """
    failures, megabytes = [], -(-size // 2 ** 20)
    for folder in (_MEMORY_FOLDER, tempfile.gettempdir()):
        try:
            with tempfile.TemporaryFile(dir=folder) as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
                descriptor = os.dup(stream.fileno())
        except OSError as error:
            failures.append(f'{folder}: {error.strerror or error}')
            continue
        if failures:
            logger.warning('batches go through a file in %s, which may be slower than memory '
                           '(%s): the readers share %d MB; give a container that much with '
                           '--shm-size', folder, failures[0], megabytes)
        return descriptor
    raise PSENetError(f'the readers need {megabytes} MB to share their batches, and there '
                      f'is no room ({"; ".join(failures)}): lower --num_readers or the batch size, '
                      'or give a container more with --shm-size')


def _receive_report(worker: _Worker, number: int, patience: float) -> BatchReport:
    """Waits until a worker reports its current batch as done.

    Args:
        worker: that has the order.
        number: of the batch, for messages.
        patience: seconds without anything computed after which the worker is lost.

    Raises:
        LostWorkerError: the worker was killed, or is stuck.
        WorkerError: it ended by itself.
        RemoteError: it failed; the traceback from there is the cause.
    """
    computed, since = _computed_seconds(worker), 0.0
    # Polls are counted, not the clock's seconds: this process may have been stopped with the other.
    for waited in itertools.count(_POLL_SECONDS, _POLL_SECONDS):
        if worker.connection.poll(_POLL_SECONDS):
            break
        before, computed = computed, _computed_seconds(worker)
        if computed > before:
            since = waited
        if waited - since >= patience or waited >= _LONGEST_SECONDS:
            raise LostWorkerError(
                f'a reader process (id {worker.process.pid}) is stuck: batch {number} has been '
                f'awaited from it for {waited:g} seconds, and it did nothing in the last '
                f'{waited - since:g}; see whether the folder of the training data can be read')
        if waited % _NOTICE_SECONDS == 0:
            logger.warning('batch %d has been awaited for %d seconds from the reader with '
                           'process id %d', number, waited, worker.process.pid)
    try:
        return read_report(worker.connection.recv_bytes(_MAX_MESSAGE_BYTES))
    except (EOFError, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(EXIT_SECONDS)
        raise _account_of_death(worker.process) from None


def _computed_seconds(worker: _Worker) -> float:
    try:
        return time.clock_gettime(~worker.process.pid << 3 | _PROCESS_CLOCK)
    except OSError:
        # It is gone, which the connection reports.
        return 0.0


def read_report(message: bytes) -> BatchReport:
    """Reads what a worker sent when it was done with a batch.

    Args:
        message: JSON, ``{"report": {...}}`` or ``{"failure": "Traceback ..."}``.

    Raises:
        RemoteError: it tells of a failure, or is not a report.
    """
    try:
        words = json.loads(message.decode())
    except ValueError as error:
        raise RemoteError('a reader process sent something that is not a report') from error
    if 'failure' in words:
        trace = words['failure']
        reason = trace.rstrip().rsplit('\n', 1)[-1]
        raise RemoteError(f'a reader process failed: {reason}') from _RemoteTrace(trace)
    report = BatchReport()
    vars(report).update(words['report'])
    # JSON has no numbers for keys.
    report.unreadable = {int(index): text for index, text in report.unreadable.items()}
    return report


def _account_of_death(process: subprocess.Popen) -> WorkerError:
    code = process.poll()
    if code is not None and code < 0:
        # Not Signals(-code): most real-time signals have no name there.
        name = {known.value: known.name for known in signal.Signals}.get(-code, f'signal {-code}')
        return LostWorkerError(
            f'a reader process (id {process.pid}) was killed by {name}; where nobody did that, '
            'memory ran out: lower --num_readers or the batch size')
    return WorkerError(f'a reader process (id {process.pid}) ended by itself with exit code '
                       f'{code}; what it wrote to the error output says why')


def worker_main(socket: int, memory: int, job_at: int) -> None:
    """The main function of a worker process.

    Args:
        socket: file descriptor of its end of the socket pair.
        memory: file descriptor of the shared memory.
        job_at: where the job begins in that.
    """
    cv2.setNumThreads(1)
    connection = Connection(socket)
    try:
        mapped = mmap.mmap(memory, 0)
        build, layout = unpickled(mapped[job_at:])
        threading.Thread(target=_exit_with_consumer, args=(socket,), daemon=True).start()
        while True:
            number, slot = json.loads(connection.recv_bytes().decode())
            report = build(number, layout.place(slot_memory(mapped, layout, slot)))
            connection.send_bytes(json.dumps({'report': vars(report)}, default=int).encode())
    except Exception:  # whatever it is, the consumer shall see it
        with contextlib.suppress(OSError):
            connection.send_bytes(json.dumps({'failure': traceback.format_exc()}).encode())
    # Alive until the failure has been read: a process that is gone would be reported instead.
    _exit_with_consumer(socket)


def _exit_with_consumer(socket: int) -> None:
    """Ends this process, in the middle of a batch if need be, when the other end is gone."""
    poll = select.poll()
    # Without any event to ask for, the end alone is reported.
    poll.register(socket, 0)
    poll.poll()
    os._exit(0)


def _start_worker(memory: int, job_at: int) -> _Worker:
    ours, theirs = Pipe()
    # Blocks what a terminal or a scheduler sends to the whole group. The consumer answers those
    # signals, saves what it has to, and then ends its workers. A process inherits the mask, which
    # holds from its first instruction, as a handler of its own would not.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        process = subprocess.Popen(
            [sys.executable, '-c', _BOOTSTRAP, *map(str, (theirs.fileno(), memory, job_at)),
             *sys.path],
            pass_fds=[theirs.fileno(), memory], stdin=subprocess.DEVNULL,
            env={**_ENVIRONMENT, **os.environ})
    except OSError as error:
        ours.close()
        raise WorkerError(f'a reader process cannot be started ({error.strerror or error}): '
                          'lower --num_readers') from None
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    return _Worker(process, ours)


def _stop(workers: List[_Worker], memory: int, owner: int) -> None:
    # A forked copy of the consumer must not end the workers of the original.
    if os.getpid() == owner:
        _end_workers(workers)
        os.close(memory)


def _end_workers(workers: List[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(EXIT_SECONDS)
