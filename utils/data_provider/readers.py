"""Reader processes that build batches in parallel, in reusable slots of shared memory.

Each worker is a new interpreter that imports this package only: no fork of a process with a device
or threads, no second run of a main script without a guard, no TensorFlow. (The spawn method of
multiprocessing would import the main script, and it leaves a tracker process behind.) A socket pair
connects the worker to its consumer; the worker exits when the other end is closed for any reason,
and only then, not after Ctrl-C.

Worker w of W builds the batches first + w, first + w + W, ...; the consumer takes them in order. It
assigns each batch a slot, and orders the next batch of a worker after taking its last. A worker
that is ahead therefore waits with one finished batch, and the slots limit the memory. The consumer
waits for a worker that computes, however slowly. It replaces one that was killed or has computed
nothing for a while (because it is stopped, or a file server does not respond), and the new worker
builds the batch again in the same slot, as a batch depends only on its number.

The slots are in an anonymous file whose space is allocated before anything is written: if a file
system is too small (in containers /dev/shm has 64 MB), there is an error message at the start
instead of SIGBUS later. The pickled job follows the slots, so that starting a worker does not wait
for it. Workers answer in JSON: they decode files from strangers, and a compromised worker must not
be able to execute code in the consumer.
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

# No device trains faster than this many readers read.
MAX_WORKERS = 16
EXIT_SECONDS = 5
# Slots for the batch in use and the next one.
_SPARE_SLOTS = 2
# Seconds without computing after which a worker, and each of its replacements, counts as stuck.
# Short at first, then long enough for a file server that is unavailable for minutes.
_PATIENCE_SECONDS = (20, 60, 180)
_POLL_SECONDS = 1
_NOTICE_SECONDS = 30
# No batch takes longer, even if the worker computes.
_LONGEST_SECONDS = 600
# A report names at most the images of a batch, so longer messages are invalid.
_MAX_MESSAGE_BYTES = 2 ** 26
# clock_getcpuclockid(3): CPU time of all threads of a process.
_PROCESS_CLOCK = 2
# A file system in memory, on every Linux.
_MEMORY_FOLDER = '/dev/shm'  # nosec B108 # noqa: S108 - only anonymous files are created there
# One thread per worker for NumPy's libraries; and malloc keeps the memory of an image for the next
# one instead of returning it to the system. (Older C libraries accept at most 32 MB.)
_ENVIRONMENT = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
                'MALLOC_MMAP_THRESHOLD_': str(2 ** 25), 'MALLOC_TRIM_THRESHOLD_': str(2 ** 27)}
# Arguments: socket, memory, offset of the job in it, then the consumer's module search path.
_BOOTSTRAP = ('import sys; sys.path[:] = sys.argv[4:]; '
              'from utils.data_provider.readers import worker_main; '
              'worker_main(*map(int, sys.argv[1:4]))')
# Builds the batch of a number in arrays.
Build = Callable[[int, BatchArrays], BatchReport]


class WorkerError(PSENetError):
    """A reader process was lost."""


class LostWorkerError(WorkerError):
    """A reader process is stuck or was killed; a new one may succeed."""


class RemoteError(RuntimeError):
    """An exception in a worker process; its cause has the worker's traceback."""


class _RemoteTrace(Exception):  # noqa: N818 - the cause of a RemoteError
    """Prints the worker's traceback as the cause of an exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class _Worker(NamedTuple):
    """A worker process and the consumer's end of the connection."""

    process: subprocess.Popen
    connection: Connection


class WorkerPool:
    """Runs workers that build batches in parallel, and returns the batches in order.

    Args:
        build: builds a batch; pickled, so its module must be importable without TensorFlow.
        layout: the shapes of a batch.
        num_workers: number of processes, at least 1.
        first: number of the first batch.

    Raises:
        PSENetError: there is not enough space for the slots.
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
        # Also called when the pool is garbage-collected, and at exit.
        self._stop = weakref.finalize(self, _stop, self._workers, self._descriptor, os.getpid())
        try:
            # All of them start before anything waits for the first.
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
            The report and the arrays: in a slot, which is reused when nothing refers to them any
            more, or copies if no other slot is free.

        Raises:
            WorkerError: a worker exited by itself, or was lost and so were its replacements.
            RemoteError: a worker failed; its traceback is the cause.
        """
        report = self._receive()
        slot = self._ordered.pop(self._next)
        memory = slot_memory(self._memory, self._layout, slot)
        if self._free:
            # All views of the slot refer to this array, which therefore outlives them. The
            # finalizer may run on any thread at any time, so it only appends.
            weakref.finalize(memory, self._free.append, slot).atexit = False
        else:
            # A consumer that keeps batches must not block the workers.
            memory = memory.copy()
            self._free.append(slot)
        arrays = self._layout.place(memory)
        del memory
        self._order(self._next + len(self._workers))
        self._next += 1
        return report, arrays

    def _receive(self) -> BatchReport:
        """Receives the report of the next batch, replacing lost workers."""
        *early, last = _PATIENCE_SECONDS
        for patience in early:
            try:
                return _receive_report(self._worker_of(self._next), self._next, patience)
            except LostWorkerError as error:
                logger.warning('%s; a new process builds batch %d', error, self._next)
            place = self._place_of(self._next)
            # Ended first, so that it cannot write into the slot any more.
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
        # A lost worker is noticed when its batch is due.
        with contextlib.suppress(OSError):
            self._worker_of(number).connection.send_bytes(
                json.dumps([number, self._ordered[number]]).encode())

    def close(self) -> None:
        """Ends the workers; may be called more than once."""
        self._stop()


def pickled(job: Any) -> bytes:
    """Pickles the job for the workers."""
    return bytes(ForkingPickler.dumps(job))


def unpickled(job: bytes) -> Any:
    """Unpickles the job in a worker."""
    return ForkingPickler.loads(job)


def slot_memory(memory: mmap.mmap, layout: BatchLayout, slot: int) -> np.ndarray:
    """Returns the memory of a slot, uint8 (layout.num_bytes,)."""
    return np.frombuffer(memory, np.uint8, layout.num_bytes, slot * layout.num_bytes)


def reserve(size: int) -> int:
    """Creates an anonymous file and allocates its space.

    Args:
        size: in bytes.

    Returns:
        The file descriptor.

    Raises:
        PSENetError: there is not enough space.
    """
    failures, megabytes = [], -(-size // 2 ** 20)
    for directory in (_MEMORY_FOLDER, tempfile.gettempdir()):
        try:
            with tempfile.TemporaryFile(dir=directory) as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
                descriptor = os.dup(stream.fileno())
        except OSError as error:
            failures.append(f'{directory}: {error.strerror or error}')
            continue
        if failures:
            logger.warning('batches are shared through a file in %s, which may be slower than '
                           'memory (%s): the readers need %d MB; start a container with that '
                           'much --shm-size', directory, failures[0], megabytes)
        return descriptor
    raise PSENetError(f'the readers need {megabytes} MB to share their batches, but there is not '
                      f'enough space ({"; ".join(failures)}): lower --num_readers or the batch '
                      'size, or start a container with a larger --shm-size')


def _receive_report(worker: _Worker, number: int, patience: float) -> BatchReport:
    """Waits until a worker has finished its current batch.

    Args:
        worker: builds the batch.
        number: of the batch, for messages.
        patience: seconds without computing after which the worker counts as lost.

    Raises:
        LostWorkerError: the worker was killed, or is stuck.
        WorkerError: it exited by itself.
        RemoteError: it failed; its traceback is the cause.
    """
    computed, since = _computed_seconds(worker), 0.0
    # Counts polls instead of seconds, as this process may have been stopped like the worker.
    for waited in itertools.count(_POLL_SECONDS, _POLL_SECONDS):
        if worker.connection.poll(_POLL_SECONDS):
            break
        before, computed = computed, _computed_seconds(worker)
        if computed > before:
            since = waited
        if waited - since >= patience or waited >= _LONGEST_SECONDS:
            raise LostWorkerError(
                f'a reader process (id {worker.process.pid}) is stuck: it has worked on batch '
                f'{number} for {waited:g} seconds, and has been idle for the last '
                f'{waited - since:g}; check whether the training data can be read')
        if waited % _NOTICE_SECONDS == 0:
            logger.warning('still waiting for batch %d, for %d seconds now, from the reader with '
                           'process id %d', number, waited, worker.process.pid)
    try:
        return read_report(worker.connection.recv_bytes(_MAX_MESSAGE_BYTES))
    except (EOFError, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(EXIT_SECONDS)
        raise _exit_error(worker.process) from None


def _computed_seconds(worker: _Worker) -> float:
    try:
        return time.clock_gettime(~worker.process.pid << 3 | _PROCESS_CLOCK)
    except OSError:
        # The process is gone; the connection will report that.
        return 0.0


def read_report(message: bytes) -> BatchReport:
    """Parses the message of a worker about a batch.

    Args:
        message: JSON, ``{"report": {...}}`` or ``{"failure": "Traceback ..."}``.

    Raises:
        RemoteError: it reports a failure, or is invalid.
    """
    try:
        words = json.loads(message.decode())
    except ValueError as error:
        raise RemoteError('a reader process sent an invalid report') from error
    if 'failure' in words:
        trace = words['failure']
        reason = trace.rstrip().rsplit('\n', 1)[-1]
        raise RemoteError(f'a reader process failed: {reason}') from _RemoteTrace(trace)
    report = BatchReport()
    vars(report).update(words['report'])
    # JSON keys are strings.
    report.unreadable = {int(index): text for index, text in report.unreadable.items()}
    return report


def _exit_error(process: subprocess.Popen) -> WorkerError:
    code = process.poll()
    if code is not None and code < 0:
        # Signals(-code) fails for most real-time signals, which have no name.
        name = {known.value: known.name for known in signal.Signals}.get(-code, f'signal {-code}')
        return LostWorkerError(
            f'a reader process (id {process.pid}) was killed by {name}; if nobody did that, the '
            'machine ran out of memory: lower --num_readers or the batch size')
    return WorkerError(f'a reader process (id {process.pid}) exited by itself with code {code}; '
                       'its error output above gives the reason')


def worker_main(socket: int, memory: int, job_at: int) -> None:
    """The main function of a worker process.

    Args:
        socket: file descriptor of the worker's end of the socket pair.
        memory: file descriptor of the shared memory.
        job_at: offset of the job in the memory.
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
    except Exception:  # any exception is sent to the consumer
        with contextlib.suppress(OSError):
            connection.send_bytes(json.dumps({'failure': traceback.format_exc()}).encode())
    # Waits until the failure has been read, or else the consumer would report a lost process.
    _exit_with_consumer(socket)


def _exit_with_consumer(socket: int) -> None:
    """Ends this process, even during a batch, when the other end is closed."""
    poll = select.poll()
    # With an empty event mask, only the end of the connection is reported.
    poll.register(socket, 0)
    poll.poll()
    os._exit(0)


def _start_worker(memory: int, job_at: int) -> _Worker:
    ours, theirs = Pipe()
    # Blocks signals that a terminal or a scheduler sends to the whole group: the consumer handles
    # them, saves, and then ends its workers. The mask is inherited and, unlike a handler, in force
    # from the first instruction of the process.
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
    # A forked copy of the consumer must not end the original's workers.
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
