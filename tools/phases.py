"""Child processes that are always cleaned up, and the phases of demos that run them."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Sequence

from utils.errors import PSENetError

# Seconds that an interrupted program has to save and exit before the next signal.
_INTERRUPT_GRACE = 30
_TERMINATE_GRACE = 10


class ChildError(PSENetError):
    """A program that failed; its messages are on the screen."""


def run_child(command: Sequence[str], capture: bool = False) -> str:
    """Runs a program and waits for it; its output goes to the screen.

    Args:
        command: the program and its arguments; no shell is involved.
        capture: whether to return its standard output instead of showing it.

    Returns:
        The captured output, or an empty str.

    Raises:
        ChildError: the exit code was not 0.
    """
    with running_child(command, capture) as child:
        output, _ = child.communicate()
    if child.returncode:
        scripts = [part for part in command if re.search(r'\.py$|^tools\.', part)]
        ending = (f'was ended by signal {-child.returncode}' if child.returncode < 0
                  else f'failed with exit code {child.returncode}')
        raise ChildError(f'{os.path.basename((scripts or command)[0])} {ending}; its messages are '
                         'above')
    return output or ''


@contextmanager
def running_child(command: Sequence[str], capture: bool) -> Iterator[subprocess.Popen]:
    """Runs a program alongside the body, and ends it after the body if it still runs.

    The program leads its own session, so Ctrl-C only reaches this process, which then ends the
    program and its children by SIGINT and, if necessary, SIGTERM and SIGKILL.

    Args:
        command: the program and its arguments; no shell is involved.
        capture: whether its standard output is a text pipe instead of the screen.

    Yields:
        The process.
    """
    child = subprocess.Popen(command, start_new_session=True, text=True,
                             stdout=subprocess.PIPE if capture else None)
    try:
        yield child
    finally:
        _end(child)
        if child.stdout:
            child.stdout.close()


def interrupt_on_termination() -> None:
    """Makes SIGTERM and SIGHUP end this process as Ctrl-C does, including its children.

    SIGHUP stays ignored if it was, as under nohup.
    """
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def _end(child: subprocess.Popen) -> None:
    for number, grace in ((signal.SIGINT, _INTERRUPT_GRACE), (signal.SIGTERM, _TERMINATE_GRACE)):
        if child.poll() is not None:
            break
        child.send_signal(number)
        # A second Ctrl-C means that the user does not want to wait.
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Clock:
    """Announces phases and records their durations."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Runs the body as a phase, and prints its duration if it succeeds."""
        print(f'\n== {name}: {what}', flush=True)
        start = time.time()
        yield
        self.seconds[name] = time.time() - start
        print(f'== {name}: done in {self.seconds[name]:.0f} s', flush=True)


def script(name: str, **flag_values: object) -> List[str]:
    """Returns the command line of one of the project's scripts.

    Args:
        name: path of the script, relative to the project's directory, or ``tools.<name>``.
        flag_values: values by flag name; a list repeats the flag for each value.
    """
    flags = [f'--{flag}={value}' for flag, values in flag_values.items()
             for value in (values if isinstance(values, list) else [values])]
    program = ['-m', name] if name.startswith('tools.') else [os.path.join(ROOT, name)]
    return [sys.executable, *program, *flags]


@contextmanager
def demo_server(**flag_values: object) -> Iterator[str]:
    """Runs ``tools.demo_server`` on a free port; its log goes to the screen.

    Args:
        flag_values: its flags other than ``port``.

    Yields:
        The URL of its page.

    Raises:
        PSENetError: the server did not start.
    """
    command = script('tools.demo_server', **flag_values, port=0)
    with running_child(command, capture=True) as child:
        url = child.stdout.readline().partition(' ')[0]
        if not url:
            raise PSENetError('tools.demo_server did not start; its messages are above')
        yield url
