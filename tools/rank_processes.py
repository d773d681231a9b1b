"""Starts, watches and ends the processes of a job together.

A failed rank ends the job, because the others would wait for it in the next collective. A stop
signal is passed on to every rank once. Each rank leads its own session, so that it does not receive
Ctrl-C twice and its readers can be ended with it.
"""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from training.signals import SAME_REQUEST_SECONDS
from utils.errors import PSENetError
from utils.utils_tool import STOP_SIGNALS, logger

# Exit codes of training after it was asked to stop and has saved.
_ORDERLY_CODES = tuple(128 + number for number in STOP_SIGNALS)


class Rank(NamedTuple):
    """A process to start."""

    name: str                       # 'rank 3 on device 3'
    command: Tuple[str, ...]
    environment: Mapping[str, str]
    cores: FrozenSet[int]           # processor cores to run on; empty for all
    output: Optional[str]           # file for stdout and stderr; None for the terminal
    log: Optional[str]              # log file that it writes in addition


class RankFailedError(PSENetError):
    """A rank failed; the exit code is that of the rank."""

    def __init__(self, sentence: str, exit_code: int):
        super().__init__(sentence)
        self.exit_code = exit_code


def run_ranks(ranks: List[Rank], grace_seconds: float) -> int:
    """Starts the ranks and waits until all of them have ended.

    Args:
        ranks: the job.
        grace_seconds: time until ranks are killed after one of them failed or after a second
            signal.

    Returns:
        0, or 128 + the number of the signal that stopped the ranks.

    Raises:
        RankFailedError: a rank failed; the others have been ended.
        PSENetError: a rank cannot be started.
    """
    with _blocked_signals() as (awaited, mask):
        job = _Job(grace_seconds)
        try:
            for rank in ranks:
                job.start(rank, mask)
            while job.runs():
                job.react(_next_signal(awaited, job.seconds_left()))
        finally:
            job.kill()
    return job.outcome()


@contextmanager
def _blocked_signals() -> Iterator[Tuple[Set[int], Set[int]]]:
    """Blocks signals for ``_next_signal``; yields the blocked signals and the previous mask.

    Signals that are ignored, as under nohup, stay ignored.
    """
    awaited = {number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    awaited.add(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        yield awaited, mask
    finally:
        # Discard signals that arrived while the last rank ended.
        while signal.sigtimedwait(awaited, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _next_signal(awaited: Set[int], seconds: Optional[float]) -> Optional[int]:
    if seconds is None:
        return signal.sigwaitinfo(awaited).si_signo
    received = signal.sigtimedwait(awaited, seconds)
    return received.si_signo if received else None


class _Job:
    """The running ranks and the state of the job's end."""

    def __init__(self, grace_seconds: float):
        self._grace = grace_seconds
        self._running: List[Tuple[Rank, subprocess.Popen]] = []
        self._failed: List[Tuple[Rank, int]] = []
        self._stop_code = 0
        self._asked_at: Optional[float] = None   # time of the last stop signal
        self._told = False                       # whether the ranks were told to stop
        self._deadline: Optional[float] = None
        self._killed = False                     # whether ranks were killed after the deadline
        self._started_at = time.time()

    def start(self, rank: Rank, mask: Set[int]) -> None:
        """Starts a rank, with the signal mask given."""
        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if rank.cores:
                os.sched_setaffinity(0, rank.cores)
        try:
            with open(rank.output or os.devnull, 'wb') as file:
                output = file if rank.output else None
                process = subprocess.Popen(
                    rank.command, env=dict(rank.environment), stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True,
                    preexec_fn=prepare)  # noqa: PLW1509 - there are no threads here
        except (OSError, subprocess.SubprocessError) as error:
            raise PSENetError(f'{rank.name} cannot be started ({error}); the job was '
                              'stopped') from error
        self._running.append((rank, process))

    def runs(self) -> bool:
        """Returns True while a rank is running."""
        return bool(self._running)

    def seconds_left(self) -> Optional[float]:
        """Returns the seconds until the deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def react(self, received: Optional[int]) -> None:
        """Handles a signal, or the deadline if it is None."""
        if received is None:
            self._expire()
        elif received != signal.SIGCHLD:
            self._pass_on(received)
        self._collect_ended()

    def _pass_on(self, signum: int) -> None:
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at < SAME_REQUEST_SECONDS:
                return
            self._set_deadline()
        self._asked_at = now
        self._tell(signum)

    def _tell(self, signum: int) -> None:
        """Signals the ranks, which end their readers themselves."""
        self._told = True
        for _, process in self._running:
            process.send_signal(signum)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace

    def _expire(self) -> None:
        if self._told:
            logger.warning('killing %s, still running after %g s',
                           ', '.join(rank.name for rank, _ in self._running), self._grace)
            self.kill()
            self._deadline, self._killed = None, True
            self._stop_code = self._stop_code or 128 + signal.SIGTERM
        else:
            self._deadline = time.monotonic() + self._grace
            self._tell(signal.SIGTERM)

    def kill(self) -> None:
        """Kills all running ranks."""
        for _, process in self._running:
            _kill_group(process.pid)

    def _collect_ended(self) -> None:
        ended = [(rank, process) for rank, process in self._running if process.poll() is not None]
        self._running = [pair for pair in self._running if pair not in ended]
        for rank, process in ended:
            _kill_group(process.pid)
            # As in a shell: 128 + the signal's number for a process that was killed.
            code = process.returncode
            self._record(rank, 128 - code if code < 0 else code)

    def _record(self, rank: Rank, exit_code: int) -> None:
        if exit_code in _ORDERLY_CODES:
            self._stop_code = exit_code
            # Only this rank received the signal; it tells the others with the next step.
            if not self._told:
                self._set_deadline()
        elif exit_code and not self._killed:
            self._failed.append((rank, exit_code))
            if len(self._failed) == 1:
                logger.warning('%s %s; stopping the others', rank.name, _how(exit_code))
                self._set_deadline()
                if not self._told:
                    self._tell(signal.SIGTERM)

    def outcome(self) -> int:
        """Returns the exit code; raises RankFailedError for the rank that failed first."""
        for rank, exit_code in self._failed:
            raise RankFailedError(f'{rank.name} {_how(exit_code)}{self._last_output(rank)}',
                                  exit_code)
        return self._stop_code

    def _last_output(self, rank: Rank) -> str:
        """Returns the last line that a rank wrote to its output or log, whichever is newer."""
        ends = [(path, *_last_line(path)) for path in (rank.output, rank.log) if path]
        # Skip logs of an earlier run; file times come from a coarser clock.
        ends = [end for end in ends if end[1] and end[2] >= self._started_at - 1]
        if not ends:
            return ''
        return '; the last line of %s: %s' % max(ends, key=lambda end: end[2])[:2]


def _kill_group(pid: int) -> None:
    """Kills a rank and all processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)



def _how(exit_code: int) -> str:
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return f'ended with exit code {exit_code}'
    return f'was killed by {name} (exit code {exit_code})'


def _last_line(path: str) -> Tuple[str, float]:
    """Returns the last non-empty line of a file, or '', and the file's modification time."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = [line.strip() for line in file if line.strip()]
        return (lines or [''])[-1], os.path.getmtime(path)
    except OSError:
        return '', 0.0
