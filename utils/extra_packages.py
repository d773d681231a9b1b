"""Packages that only some of the tools need, and what is said where one is not there."""

from contextlib import contextmanager
from typing import Iterator

from utils.errors import PSENetError, first_line


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
