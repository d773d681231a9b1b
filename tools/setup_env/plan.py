"""What .venv is to be, what it was last completed for, and whether the two agree.

What .venv was made with is kept in ``.venv/setup``. Its file ``stamp`` is written last and removed
before anything changes, so an environment without it is known to be half-made.
"""

import contextlib
import hashlib
import importlib.machinery
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import List, NamedTuple

from utils.errors import PSENetError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
STATE = VENV / 'setup'
REQUIREMENT_FILES = ('requirements.txt', 'requirements-dev.txt', 'constraints.txt')


class SetupError(PSENetError):
    """What keeps the environment from being made."""


class Plan(NamedTuple):
    """What .venv is to be.

    Attributes:
        interpreter: path of the Python that it is made from.
        tensorflow: the requirement for TensorFlow that was asked for; '' for the pinned one.
    """

    interpreter: str
    tensorflow: str


class Stamp(NamedTuple):
    """Digests of what .venv depends on; '' where it was not completed.

    Attributes:
        environment: when it differs, .venv has to be made anew: another interpreter, or a project
            folder that was moved.
        packages: when it differs, packages have to be installed.
    """

    environment: str
    packages: str


def make_plan(interpreter: str = '') -> Plan:
    """Reads what is asked for; what is not stays as .venv has it.

    Args:
        interpreter: path of the Python to use; '' for that of the environment variable PYTHON.

    Returns:
        The plan; its TensorFlow comes from the environment variable TF.

    Raises:
        SetupError: when TF is no TensorFlow 1.15.
    """
    interpreter = interpreter or _given_python() or recall('python') or sys.executable
    tensorflow = os.environ.get('TF', '')
    if not tensorflow and interpreter == recall('python'):
        tensorflow = recall('tensorflow')
    is_wheel = tensorflow.endswith('.whl') and os.path.isfile(tensorflow)
    if tensorflow and not is_wheel and not re.match(r'[\w.-]+==1\.15\.[\w.+]+$', tensorflow):
        raise SetupError('TF=%s is neither a TensorFlow 1.15 such as intel-tensorflow==1.15.2 nor '
                         'the path of a wheel' % tensorflow)
    return Plan(interpreter, tensorflow)


def is_ready(plan: Plan) -> bool:
    """Whether .venv was completed for this plan and pse is built; takes milliseconds."""
    return read_stamp() == stamp_of(plan) and _is_pse_built() and runs()


def stamp_of(plan: Plan) -> Stamp:
    """Returns the stamp that .venv has when it is completed for a plan."""
    path = pathlib.Path(plan.interpreter)
    environment = [path.parent.resolve(), path.resolve(), '%d.%d' % sys.version_info[:2], ROOT]
    files = [(ROOT / name).read_bytes() for name in REQUIREMENT_FILES]
    return Stamp(_digest([os.fsencode(str(part)) for part in environment]),
                 _digest([plan.tensorflow.encode(), *files]))


def read_stamp() -> Stamp:
    """Returns the stamp of .venv."""
    return Stamp(*(recall('stamp').split('\n') + ['', ''])[:2])


def recall(name: str) -> str:
    """Returns the text of a file of .venv/setup; '' where there is none."""
    path = STATE / name
    return path.read_text(encoding='utf-8').strip() if path.is_file() else ''


def remember(name: str, lines: List[str]) -> None:
    """Writes a file of .venv/setup, whole or not at all."""
    STATE.mkdir(parents=True, exist_ok=True)
    part = STATE / (name + '.part')
    part.write_text(''.join(line + '\n' for line in lines), encoding='utf-8')
    part.replace(STATE / name)


def forget(name: str) -> None:
    """Removes a file of .venv/setup, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        (STATE / name).unlink()


def runs() -> bool:
    """Whether .venv has a Python that runs."""
    if pathlib.Path(sys.prefix) == VENV:
        return True
    try:
        return subprocess.call([str(VENV_PYTHON), '-c', ''], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _given_python() -> str:
    """The absolute path of $PYTHON; '' where it is unset or is .venv's own."""
    given = os.environ.get('PYTHON', '')
    path = os.path.abspath(shutil.which(given) or given)
    return path if given and os.path.dirname(path) != str(VENV_PYTHON.parent) else ''


def _is_pse_built() -> bool:
    module = ROOT / 'pse' / ('_pse' + importlib.machinery.EXTENSION_SUFFIXES[0])
    sources = [ROOT / 'pse' / 'pse.cpp', ROOT / 'pse' / 'Makefile']
    return module.is_file() and all(
        source.stat().st_mtime <= module.stat().st_mtime for source in sources)


def _digest(parts: List[bytes]) -> str:
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()
