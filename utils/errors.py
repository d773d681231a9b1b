"""The error a person can act on.

Everything that is the user's to mend (a wrong path, a broken file, a flag pair that cannot work) is
raised as a PSENetError whose message is one sentence naming the file, line or flag and the way out.
Entry scripts print that sentence and exit; anything else is a defect and keeps its traceback.
"""

from contextlib import contextmanager
from typing import Iterator


class PSENetError(Exception):
    """A user's mistake, or an input that cannot be used; ``str(error)`` is the whole message."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """The first line of an error's text, without a trailing full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')


def lack_of_tensorflow(error: ModuleNotFoundError) -> str:
    """Message for a failed import of TensorFlow; '' if another module is missing."""
    if (error.name or '').split('.')[0] not in ('tensorflow', 'tensorboard'):
        return ''
    return ('this needs TensorFlow 1.15, which is not installed for this Python: `make setup` '
            'makes .venv with it; detection does without it by --engine=onnx and '
            '--model=<file>.onnx')


@contextmanager
def extra_package(user: str) -> Iterator[None]:
    """Surrounds imports of packages that ``make setup-tools`` installs.

    Args:
        user: what needs them, the subject of the sentence: '--engine=onnx'.

    Raises:
        PSENetError: one of them is not installed, or does not start.
    """
    try:
        yield
    except ImportError as error:
        reason = (f'the package {error.name}, which is not installed'
                  if isinstance(error, ModuleNotFoundError) else
                  f'a package that does not start ({first_line(error)})')
        raise PSENetError(f'{user} needs {reason}; run make setup-tools') from None
