"""Files: atomic replacement and content hashes."""

import contextlib
import hashlib
import os
from typing import Iterator

from utils.errors import PSENetError

_BLOCK = 1 << 20


def file_digest(path: str) -> str:
    """Computes the content hash of a file.

    Args:
        path: file to read.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(_BLOCK), b''):
            digest.update(block)
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def replacing(path: str, named: bool = True) -> Iterator[str]:
    """Replaces a file atomically with one that the body writes.

    Args:
        path: file to replace or create.
        named: turn an OSError into a PSENetError that names the file.

    Yields:
        A temporary path in the same directory. After an error in the body, ``path`` is unchanged.

    Raises:
        PSENetError: the body raised an OSError, or the file cannot be replaced.
        OSError: the same, if ``named`` is false.
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
