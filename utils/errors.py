"""Errors that a user can fix.

A wrong path, a broken file or an invalid combination of flags is raised as a PSENetError. Its
message is one sentence that names the file, line or flag and says what to do. Entry scripts print
the sentence and exit; any other exception is a bug and keeps its traceback.
"""

from contextlib import contextmanager
from typing import Iterator


class PSENetError(Exception):
    """A user's mistake or an unusable input; ``str(error)`` is the complete message."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text, without a trailing full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')


def lack_of_tensorflow(error: ModuleNotFoundError) -> str:
    """Returns the message for a failed import of TensorFlow; '' if another module is missing."""
    if (error.name or '').split('.')[0] not in ('tensorflow', 'tensorboard'):
        return ''
    return ('this needs TensorFlow 1.15, which is not installed for this Python: `make setup` '
            'creates .venv with it; detection works without it with --engine=onnx '
            '--model=<file>.onnx')


@contextmanager
def extra_package(user: str) -> Iterator[None]:
    """Wraps imports of packages that ``make setup-tools`` installs.

    Args:
        user: what needs them, as the subject of the message: '--engine=onnx'.

    Raises:
        PSENetError: one of them is not installed or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        reason = (f'the package {error.name}, which is not installed'
                  if isinstance(error, ModuleNotFoundError) else
                  f'a package that cannot be imported ({first_line(error)})')
        raise PSENetError(f'{user} needs {reason}; run make setup-tools') from None
