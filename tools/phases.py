"""Child processes that leave nothing behind, and the phases of demos that run them."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Dict, Iterator, List, Optional, Sequence

from utils.errors import PSENetError

# Seconds that an interrupted program gets to save and leave before it is asked more firmly.
_INTERRUPT_GRACE = 30
_TERMINATE_GRACE = 10


class ChildError(PSENetError):
    """A program that ended with an exit code other than 0; its own words are on the screen."""


def run_child(command: Sequence[str], capture: bool = False) -> str:
    """Runs a program to its end; its output goes to the screen.

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
        raise ChildError(f'{_name(command)} {_ending(child.returncode)}; its messages are above')
    return output or ''


@contextmanager
def running_child(command: Sequence[str], capture: bool) -> Iterator[subprocess.Popen]:
    """Runs a program beside the body, and ends it where the body has not waited for its end.

    The program leads a session of its own, so Ctrl-C reaches this process alone, which then ends
    the program and whatever it started: SIGINT, and where that does not help SIGTERM, SIGKILL.

    Args:
        command: the program and its arguments; no shell is involved.
        capture: whether its standard output is a pipe, of text, instead of the screen.

    Yields:
        The program.
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
    """Makes SIGTERM and SIGHUP end this process as Ctrl-C does, so that children are ended too.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise_interrupt)


def _raise_interrupt(_number: int, _frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


def _end(child: subprocess.Popen) -> None:
    for number, grace in ((signal.SIGINT, _INTERRUPT_GRACE), (signal.SIGTERM, _TERMINATE_GRACE)):
        if child.poll() is not None:
            break
        child.send_signal(number)
        # A second Ctrl-C means that the person does not want to wait.
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _name(command: Sequence[str]) -> str:
    """Returns the script's name where an interpreter runs one, else the program's."""
    scripts = [argument for argument in command if re.search(r'\.py$|^tools\.', argument)]
    return os.path.basename((scripts or command)[0])


def _ending(return_code: int) -> str:
    if return_code < 0:
        return f'was ended by signal {-return_code}'
    return f'failed with exit code {return_code}'


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Clock:
    """Announces phases and remembers how long each took."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Runs the body as a phase; its time is printed when it succeeds."""
        print(f'\n== {name}: {what}', flush=True)
        start = time.time()
        yield
        self.seconds[name] = time.time() - start
        print(f'== {name}: done in {self.seconds[name]:.0f} s', flush=True)


def script(name: str, **flag_values: object) -> List[str]:
    """The command line of one of the project's scripts.

    Args:
        name: path of the script, from the project's directory, or ``tools.<name>``.
        flag_values: by flag; a list gives the flag once for each of its values.
    """
    flags = [f'--{flag}={value}' for flag, values in flag_values.items()
             for value in (values if isinstance(values, list) else [values])]
    program = ['-m', name] if name.startswith('tools.') else [os.path.join(ROOT, name)]
    return [sys.executable, *program, *flags]


@contextmanager
def demo_server(**flag_values: object) -> Iterator[str]:
    """Runs ``tools.demo_server`` on a free port; its log goes to the screen.

    Args:
        flag_values: its flags, but ``port``.

    Yields:
        The address of its page.

    Raises:
        PSENetError: it does not start.
    """
    command = script('tools.demo_server', **flag_values, port=0)
    with running_child(command, capture=True) as child:
        url = child.stdout.readline().partition(' ')[0]
        if not url:
            raise PSENetError('tools.demo_server did not start; its messages are above')
        yield url
