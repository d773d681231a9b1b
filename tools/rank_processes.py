"""The processes of a job: started, watched, and ended together.

A rank that fails ends the job, because the others would wait for it in the next collective. A
signal that asks for an end is passed on to every rank once. Each rank has a session of its own, so
that Ctrl-C does not reach it twice, and that its readers can be ended with it.
"""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from training.signals import SAME_WISH_SECONDS
from utils.errors import PSENetError
from utils.utils_tool import STOP_SIGNALS, logger

# What training exits with after it was asked to stop and has saved.
_ORDERLY_CODES = tuple(128 + number for number in STOP_SIGNALS)


class Rank(NamedTuple):
    """One process to start."""

    name: str                       # 'rank 3 on device 3'
    command: Tuple[str, ...]
    environment: Mapping[str, str]
    cores: FrozenSet[int]           # processor cores that it may use; empty: all
    output: Optional[str]           # file for stdout and stderr; None: the terminal
    log: Optional[str]              # a file that it writes besides


class RankFailedError(PSENetError):
    """A rank ended before the others and not in good order; the exit code is that rank's."""

    def __init__(self, sentence: str, exit_code: int):
        """Keeps both."""
        super().__init__(sentence)
        self.exit_code = exit_code


def run_ranks(ranks: List[Rank], grace_seconds: float) -> int:
    """Starts the ranks and waits until all of them have ended.

    Args:
        ranks: the job.
        grace_seconds: how long ranks are waited for once one of them has failed, or after a second
            signal; then they are killed.

    Returns:
        0, or 128 + the number of the signal after which the ranks ended in good order.

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
    """Keeps signals for ``_next_signal``: those that are awaited, and the mask of before.

    What nohup or a shell set to be ignored stays ignored.
    """
    awaited = {number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    awaited.add(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        yield awaited, mask
    finally:
        # One that came while the last rank ended has been granted already.
        while signal.sigtimedwait(awaited, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _next_signal(awaited: Set[int], seconds: Optional[float]) -> Optional[int]:
    if seconds is None:
        return signal.sigwaitinfo(awaited).si_signo
    received = signal.sigtimedwait(awaited, seconds)
    return received.si_signo if received else None


class _Job:
    """The ranks that run, and how the end of the job stands."""

    def __init__(self, grace_seconds: float):
        self._grace = grace_seconds
        self._running: List[Tuple[Rank, subprocess.Popen]] = []
        self._failed: List[Tuple[Rank, int]] = []
        self._stop_code = 0
        self._asked_at: Optional[float] = None   # when a signal last asked for the end
        self._told = False                       # whether the ranks know that they are to end
        self._deadline: Optional[float] = None
        self._killed = False                     # by us, for want of patience
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
            raise PSENetError(f'{rank.name} cannot be started ({error}); the job is '
                              'ended') from error
        self._running.append((rank, process))

    def runs(self) -> bool:
        """Whether a rank still runs."""
        return bool(self._running)

    def seconds_left(self) -> Optional[float]:
        """Until patience ends; None without such a time."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def react(self, received: Optional[int]) -> None:
        """To a signal, or to the deadline where it is None."""
        if received is None:
            self._lose_patience()
        elif received != signal.SIGCHLD:
            self._pass_on(received)
        self._collect_ended()

    def _pass_on(self, signum: int) -> None:
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at < SAME_WISH_SECONDS:
                return
            self._set_deadline()
        self._asked_at = now
        self._tell(signum)

    def _tell(self, signum: int) -> None:
        """Signals the ranks, and not their readers, which they end themselves."""
        self._told = True
        for _, process in self._running:
            process.send_signal(signum)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace

    def _lose_patience(self) -> None:
        if self._told:
            logger.warning('%s did not end and %s killed',
                           ', '.join(rank.name for rank, _ in self._running),
                           'is' if len(self._running) == 1 else 'are')
            self.kill()
            self._deadline, self._killed = None, True
            self._stop_code = self._stop_code or 128 + signal.SIGTERM
        else:
            self._deadline = time.monotonic() + self._grace
            self._tell(signal.SIGTERM)

    def kill(self) -> None:
        """Ends all that runs, at once."""
        for _, process in self._running:
            _kill_group(process.pid)

    def _collect_ended(self) -> None:
        ended = [(rank, process) for rank, process in self._running if process.poll() is not None]
        self._running = [pair for pair in self._running if pair not in ended]
        for rank, process in ended:
            _kill_group(process.pid)
            self._note(rank, _exit_code(process.returncode))

    def _note(self, rank: Rank, exit_code: int) -> None:
        if exit_code in _ORDERLY_CODES:
            self._stop_code = exit_code
            # The signal went to this rank alone, which tells the others with the next step.
            if not self._told and self._deadline is None:
                self._set_deadline()
        elif exit_code and not self._killed:
            self._note_failure(rank, exit_code)

    def _note_failure(self, rank: Rank, exit_code: int) -> None:
        self._failed.append((rank, exit_code))
        if len(self._failed) == 1:
            logger.warning('%s %s; the others are ended', rank.name, _how(exit_code))
            self._set_deadline()
            if not self._told:
                self._tell(signal.SIGTERM)

    def outcome(self) -> int:
        """The exit code; raises RankFailedError for the rank that failed first."""
        for rank, exit_code in self._failed:
            raise RankFailedError(f'{rank.name} {_how(exit_code)}{self._last_words(rank)}',
                                  exit_code)
        return self._stop_code

    def _last_words(self, rank: Rank) -> str:
        """The last line that a rank left in a file, the later one if there are two."""
        ends = [(path, *_last_line(path)) for path in (rank.output, rank.log) if path]
        # A log may be of an earlier run; and a file's time comes from a coarser clock.
        ends = [end for end in ends if end[1] and end[2] >= self._started_at - 1]
        if not ends:
            return ''
        return '; the last line of %s: %s' % max(ends, key=lambda end: end[2])[:2]


def _kill_group(pid: int) -> None:
    """Kills what is left of a rank and of the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _exit_code(returncode: int) -> int:
    """As a shell has it: 128 + the signal's number for a process that was killed."""
    return 128 - returncode if returncode < 0 else returncode


def _how(exit_code: int) -> str:
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return f'ended with exit code {exit_code}'
    return f'was killed by {name} (exit code {exit_code})'


def _last_line(path: str) -> Tuple[str, float]:
    """The last line with text of a file, and when it was written; '' where there is none."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = [line.strip() for line in file if line.strip()]
        return (lines or [''])[-1], os.path.getmtime(path)
    except OSError:
        return '', 0.0
