"""One training a checkpoint folder: a lock that nobody holds who is not running.

The lock is a POSIX record lock, which the kernel keeps for a process: it goes with the process,
however that ends, and neither readers nor any other child can inherit it. Network file systems
know it too.
"""

import contextlib
import errno
import fcntl
import os
import socket
from typing import Iterator, TextIO

from utils.errors import PSENetError
from utils.utils_tool import logger

LOCK_FILE = 'training.lock'
_HELD = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def folder_lock(folder: str, rank: int) -> Iterator[None]:
    """Keeps every other training out of a checkpoint folder.

    Where the file system has no locks, a warning says so and the run goes on.

    Args:
        folder: of the run; made when it does not exist.
        rank: of this process; rank 0, which alone writes checkpoints, holds the lock for all.

    Raises:
        PSENetError: another training holds it, or the folder cannot be written.
    """
    if rank:
        yield
        return
    with _locked(folder) as file:
        _sign(file)
        try:
            yield
        finally:
            _remove(file)


def _locked(folder: str) -> TextIO:
    """The lock's file, open and locked; closing it, this way or any other, lets go of the lock."""
    while True:
        file = _open(folder)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                with file:
                    raise PSENetError(_refusal(folder, file.read())) from None
            logger.warning('%s cannot be locked (%s): nothing keeps a second training out of the '
                           'folder', file.name, error.strerror)
            return file
        if _is_in_place(file):
            return file
        # It was removed by the run that ended between our opening and locking it.
        file.close()


def _open(folder: str) -> TextIO:
    try:
        os.makedirs(folder, exist_ok=True)
        # 'a' makes the file and keeps what is in it; Python's descriptors do not survive an exec.
        file = open(os.path.join(folder, LOCK_FILE), 'a+', encoding='utf-8',  # noqa: SIM115
                    errors='replace')
    except OSError as error:
        raise PSENetError('--checkpoint_path=%s cannot be written (%s); choose another folder'
                          % (folder, error.strerror)) from error
    file.seek(0)
    return file


def _is_in_place(file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(file: TextIO) -> None:
    """Removes the file while it is still locked; one that took its place is left alone."""
    with contextlib.suppress(OSError):
        if _is_in_place(file):
            os.remove(file.name)


def _sign(file: TextIO) -> None:
    """Writes who holds the lock, for the message of those that are refused."""
    with contextlib.suppress(OSError):  # on a full disk, that message lacks the name
        file.truncate(0)
        file.write('process %d on %s\n' % (os.getpid(), socket.gethostname()))
        file.flush()


def _refusal(folder: str, holder: str) -> str:
    return ('--checkpoint_path=%s is in use by another training (%s); wait for its end or stop it, '
            'or name another folder' % (folder, holder.strip()[:100] or 'which just starts'))
