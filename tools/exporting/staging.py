"""Models appear in their folder when they are complete and checked, or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from typing import Iterator

import tensorflow as tf

from inference.networks import SAVED_MODEL_GRAPH
from inference.results import make_folder
from utils.errors import PSENetError, first_line

# The last: TensorFlow takes no name that is not UTF-8.
_DISK_ERRORS = (OSError, tf.errors.OpError, UnicodeEncodeError)


_PREFIX = '.export-'


@contextlib.contextmanager
def working_folder(output_dir: str) -> Iterator[str]:
    """Makes a folder within the output folder, which is made too; it goes in the end.

    Where a process was killed before it could remove its own, the next one does.

    Args:
        output_dir: where the models are to be.

    Yields:
        Path of the empty folder.

    Raises:
        PSENetError: it cannot be made.
    """
    make_folder(output_dir)
    with contextlib.ExitStack() as stack:
        with disk_errors_named(output_dir):
            _remove_abandoned(output_dir)
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=_PREFIX, dir=output_dir))
            # Where the file system has no locks, nobody else's folder is removed either.
            with contextlib.suppress(OSError):
                stack.enter_context(_locked(folder))
        yield folder


def _remove_abandoned(output_dir: str) -> None:
    for name in os.listdir(output_dir):
        folder = os.path.join(output_dir, name)
        if name.startswith(_PREFIX):
            with contextlib.suppress(OSError), _locked(folder):
                shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Locks a folder; OSError where a process that lives has done so. The kernel unlocks it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors_named(path: str) -> Iterator[None]:
    """Turns errors of the disk in the body into a sentence about ``path``.

    Raises:
        PSENetError: there was one.
    """
    try:
        yield
    except _DISK_ERRORS as error:
        # TensorFlow names the file of the working folder before the reason.
        reason = getattr(error, 'strerror', None) or first_line(error).split('; ')[-1]
        raise PSENetError(f'cannot write {path}: {reason}') from None


def check_replaceable(path: str, is_folder: bool) -> None:
    """Makes sure that only an earlier export would be replaced.

    Args:
        path: where a model is to be.
        is_folder: whether it is the folder of a SavedModel.

    Raises:
        PSENetError: something else is there.
    """
    if not os.path.lexists(path):
        return
    ours = (os.path.isfile(os.path.join(path, SAVED_MODEL_GRAPH)) if is_folder
            else os.path.isfile(path))
    if not ours:
        raise PSENetError(f'{path} is there and is no exported model; move it away or choose '
                          'another --output_dir')


def put_in_place(model: str, path: str) -> None:
    """Moves a finished model to its place; an earlier one there goes.

    Args:
        model: file or folder in a working folder of the same disk.
        path: its place, or an earlier model of the same kind.

    Raises:
        PSENetError: it cannot be moved; the earlier one stays.
    """
    with disk_errors_named(path):
        if not os.path.isdir(path):
            os.replace(model, path)
            return
        # A folder cannot be replaced in one step.
        earlier = f'{model}.earlier'
        os.rename(path, earlier)
        try:
            os.rename(model, path)
        except BaseException:
            os.rename(earlier, path)
            raise
