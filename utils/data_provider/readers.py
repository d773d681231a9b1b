"""Reader processes that make batches, and what joins them to the process that takes them.

Each worker is a fresh interpreter that imports this package and nothing of the program that
started it: no fork of a process that holds a device or threads, no second run of a script without a
guard, no TensorFlow. (The spawn method of multiprocessing would import the main script, and leaves
a tracker process behind.) A socket pair joins it to its consumer, and a worker ends when the other
end is gone, for whatever reason; that, and not Ctrl-C, is what ends it.

Worker w of W makes the batches first + w, first + w + W, ...; the consumer takes them in order. It
orders each in a slot of shared memory, the next of a worker when it has taken the last: a worker
that is ahead waits with one batch finished, and the slots bound what is held in memory. A worker
that works is slow, and is waited for. One that was killed, or has not computed anything for a while
(it is stopped, or before a file that does not answer), is replaced, and its batch made anew, in the
same slot: a batch depends on its number alone.

Arrays do not come over the socket: they lie in the slots, and only words are exchanged about them.
The job is pickled by the consumer, which the worker is a part of, and lies in a file: a worker that
is slow to begin, or stopped, keeps nobody waiting. What comes back is JSON: a worker decodes files
of strangers, and shall not be able to make its consumer run anything.
"""

import contextlib
import itertools
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import cv2

from utils.data_provider.batching import BatchArrays, BatchLayout, BatchReport
from utils.data_provider.slots import LentSlots, SlotMemory, reserve
from utils.errors import PSENetError
from utils.utils_tool import STOP_SIGNALS, logger

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
    channel: 'BatchChannel'


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


# A report names each of a batch's images at most; a longer message is not ours.
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
            RemoteError: the worker sent a failure, or something that is not a report.
            EOFError, OSError: the worker is gone.
        """
        data = self._connection.recv_bytes(_MAX_MESSAGE_BYTES)
        try:
            message = json.loads(data.decode())
        except ValueError as error:
            raise RemoteError('A reader process sent something that is not a report') from error
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


# Each holds an interpreter and a batch; no device trains faster than so many can read.
MAX_WORKERS = 16

# Slots beside those that workers fill: the batch that is in use, and the one that comes after it.
_SPARE_SLOTS = 2

# Seconds without anything computed after which a worker, and those that replace it, count as stuck:
# the first is soon found, and a file server that is away for minutes is outlasted.
_PATIENCE_SECONDS = (20, 60, 180)
# NumPy's libraries would start a thread a core in every worker, and the C library would return the
# memory of each picture to the system, and fetch it anew, page by page, for the next. (Older ones
# take no threshold beyond 32 MB.)
_ENVIRONMENT = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
                'MALLOC_MMAP_THRESHOLD_': str(2 ** 25), 'MALLOC_TRIM_THRESHOLD_': str(2 ** 27)}
# Its arguments: the socket, the shared memory, the job, then the consumer's module search path.
_BOOTSTRAP = ('import sys; sys.path[:] = sys.argv[4:]; '
              'from utils.data_provider.readers import worker_main; '
              'worker_main(*map(int, sys.argv[1:4]))')
# Makes a batch by its number, into arrays.
Build = Callable[[int, BatchArrays], BatchReport]


class _Job(NamedTuple):
    build: Build
    layout: BatchLayout
    num_slots: int


class WorkerPool:
    """Workers that make batches side by side, and the batches in order.

    Args:
        build: makes a batch by its number; pickled, from a module that can be imported without
            TensorFlow.
        layout: the shapes of a batch.
        num_workers: processes, at least 1.
        first: number of the first batch.
    """

    def __init__(self, build: Build, layout: BatchLayout, num_workers: int, first: int = 0):
        self._first = self._next = first
        self._layout = layout
        self._slots = LentSlots(layout.num_bytes, num_workers + _SPARE_SLOTS)
        self._ordered: Dict[int, int] = {}      # slot by number of a batch
        self._job = write_job(_Job(build, layout, num_workers + _SPARE_SLOTS))
        self._workers: List[Worker] = []
        # Also called when the pool is forgotten, and when the program ends.
        self._stop = weakref.finalize(self, _stop, self._workers, self._slots, self._job,
                                      os.getpid())
        try:
            self._start(num_workers)
        except BaseException:
            self._stop()
            raise

    def _start(self, num_workers: int) -> None:
        # All of them, before the first is waited for.
        for _ in range(num_workers):
            self._workers.append(_start_worker(self._slots.descriptor, self._job))
        for number in range(self._first, self._first + num_workers):
            self._order(number)

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
        arrays = self._hand_over(self._ordered.pop(self._next))
        self._order(self._next + len(self._workers))
        self._next += 1
        return report, arrays

    def _receive(self) -> BatchReport:
        """The report of the next batch, from whichever worker gets done with it."""
        *early, last = _PATIENCE_SECONDS
        for patience in early:
            try:
                return receive_report(self._worker_of(self._next), self._next, patience)
            except LostWorkerError as error:
                logger.warning('%s Another one makes batch %d.', error, self._next)
            self._replace_worker_of(self._next)
        return receive_report(self._worker_of(self._next), self._next, last)

    def _replace_worker_of(self, number: int) -> None:
        place = self._place_of(number)
        # Ended first: what it was writing into the slot must not mix with what comes.
        _end_workers([self._workers[place]])
        self._workers[place] = _start_worker(self._slots.descriptor, self._job)
        self._send_order(number)

    def _place_of(self, number: int) -> int:
        return (number - self._first) % len(self._workers)

    def _worker_of(self, number: int) -> Worker:
        return self._workers[self._place_of(number)]

    def _order(self, number: int) -> None:
        self._ordered[number] = self._slots.take()
        self._send_order(number)

    def _send_order(self, number: int) -> None:
        # A worker that is gone is noticed when its batch is due.
        with contextlib.suppress(OSError):
            self._worker_of(number).channel.send_order(number, self._ordered[number])

    def _hand_over(self, slot: int) -> BatchArrays:
        if self._slots:
            return self._layout.place(self._slots.lend(slot))
        # Whoever keeps batches must not stop the workers.
        arrays = self._layout.place(self._slots.look_into(slot).copy())
        self._slots.give_back(slot)
        return arrays

    def close(self) -> None:
        """Ends the workers; can be called any number of times."""
        self._stop()


def worker_main(descriptor: int, memory: int, job_file: int) -> None:
    """What a worker process runs, to its end.

    Args:
        descriptor: file descriptor of its end of the socket pair.
        memory: file descriptor of the shared memory.
        job_file: file descriptor of what it has to do.
    """
    cv2.setNumThreads(1)
    channel = BatchChannel(Connection(descriptor))
    try:
        job = read_job(job_file)
        threading.Thread(target=_exit_with_consumer, args=(channel,), daemon=True).start()
        slots = SlotMemory(memory, job.layout.num_bytes, job.num_slots)
        while True:
            number, slot = channel.receive_order()
            channel.send_report(job.build(number, job.layout.place(slots[slot])))
    except Exception:  # whatever it is, the consumer shall see it
        with contextlib.suppress(OSError):
            channel.send_failure(traceback.format_exc())
    # Alive until the failure has been read: a process that is gone would be reported instead.
    _exit_with_consumer(channel)


def _exit_with_consumer(channel: BatchChannel) -> None:
    """Ends this process, in the middle of a batch if need be, when the other end is gone."""
    channel.wait_for_end()
    os._exit(0)


def _start_worker(memory: int, job_file: int) -> Worker:
    ours, theirs = Pipe()
    with theirs, _signals_held_back():
        descriptors = [theirs.fileno(), memory, job_file]
        try:
            process = subprocess.Popen(
                [sys.executable, '-c', _BOOTSTRAP, *map(str, descriptors), *sys.path],
                pass_fds=descriptors, stdin=subprocess.DEVNULL,
                env={**_ENVIRONMENT, **os.environ})
        except OSError as error:
            ours.close()
            raise WorkerError(f'A reader process cannot be started ({error.strerror or error}): '
                              'lower --num_readers.') from None
    return Worker(process, BatchChannel(ours))


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Blocks what a terminal or a scheduler sends to the whole group; processes inherit the mask.

    The consumer answers those signals, saves what it has to, and then ends its workers. Blocking
    holds from the first instruction of the new process, which a handler of its own would not.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _stop(workers: List[Worker], slots: LentSlots, job_file: int, owner: int) -> None:
    # A forked copy of the consumer must not end the workers of the original.
    if os.getpid() == owner:
        _end_workers(workers)
        slots.close_descriptor()
        os.close(job_file)


def _end_workers(workers: List[Worker]) -> None:
    for worker in workers:
        worker.channel.close()
        worker.process.kill()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(EXIT_SECONDS)
