"""What the demos share: phases that are announced and timed, and commands of the project."""

import os
import sys
import time
from contextlib import contextmanager
from typing import Dict, Iterator, List

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
        name: path of the script, from the project's folder.
        flag_values: by flag; a list gives the flag once for each of its values.
    """
    flags = [f'--{flag}={value}' for flag, values in flag_values.items()
             for value in (values if isinstance(values, list) else [values])]
    return [sys.executable, os.path.join(ROOT, name), *flags]
