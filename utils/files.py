"""Files: written whole or not at all, and identified by their content."""

import contextlib
import hashlib
import os
from typing import Iterator

from utils.errors import PSENetError

_BLOCK = 1 << 20


def file_digest(path: str) -> str:
    """Content hash of a file.

    Args:
        path: file to read.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(_BLOCK), b''):
            digest.update(block)
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def replacing(path: str, named: bool = True) -> Iterator[str]:
    """Offers a temporary path; what is written there then replaces ``path`` atomically.

    Args:
        path: a file that is there or not.
        named: turn an OSError into a sentence that names the file.

    Yields:
        A path beside it. After an error in the body, ``path`` is what it was.

    Raises:
        PSENetError: the body raised an OSError, or the file cannot be replaced.
        OSError: the same, where ``named`` is false.
    """
    temporary = os.path.join(os.path.dirname(path), f'.{os.path.basename(path)}.{os.getpid()}.tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if not named:
            raise
        raise PSENetError(f'cannot write {path}: {error.strerror or error}') from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)
