"""Finding checkpoints: whatever path a person gives.

Published archives come without their ``checkpoint`` index, with an index that names a folder of
another machine, as a bare prefix, or as one of the files. All of that is found; what is not a whole
checkpoint is named in a sentence.
"""

import glob
import os
import re
from typing import List, Optional

import tensorflow as tf

from utils.digest import file_digest
from utils.errors import PSENetError, first_line
from utils.utils_tool import logger

# TensorFlow's name for the file that says which checkpoint of a folder is the newest.
INDEX_FILE = 'checkpoint'
_FILE_SUFFIX = re.compile(r'\.(index|meta|data-\d{5}-of-\d{5})$')
_ARCHIVES = ('.tar.gz', '.tgz', '.tar', '.zip')
# What people give for a checkpoint, by how its name ends.
_OTHER_FILES = {
    ('.pth', '.pt', '.pth.tar'): "PyTorch's, which cannot be read; give a checkpoint that "
                                 'TensorFlow has written',
    _ARCHIVES: 'an archive; unpack it and give the checkpoint that it holds',
    ('.pb', '.onnx'): 'an exported model; eval.py takes it as --model',
}
# What TensorFlow's readers and savers raise for files that are damaged, cut off, or no checkpoint.
READ_ERRORS = (tf.errors.OpError, ValueError, OSError, RuntimeError)


class CheckpointError(PSENetError):
    """A checkpoint that is not there, is damaged, or is of something else."""


def resolve_checkpoint(path: str) -> str:
    """Finds the checkpoint that a path means.

    Args:
        path: a folder with or without a ``checkpoint`` index, a prefix (``model.ckpt-1000``), one
            of a checkpoint's files (``.index``, ``.data-...``, ``.meta``), or a V1 file.

    Returns:
        The prefix that TensorFlow's readers take; of a folder, the newest checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    if os.path.isdir(path):
        return _newest_in(path)
    if os.path.isfile(path):
        for suffixes, advice in _OTHER_FILES.items():
            if path.lower().endswith(suffixes):
                raise CheckpointError(f'{path} is no checkpoint of TensorFlow but {advice}')
    prefix = _FILE_SUFFIX.sub('', path)
    _check_complete(prefix)
    return prefix


def find_checkpoints(folder: str) -> List[str]:
    """Prefixes of all checkpoints in a folder, the highest step last (name order within a step)."""
    pattern = os.path.join(glob.escape(folder), '*.index')
    return sorted((path[:-len('.index')] for path in glob.glob(pattern)),
                  key=lambda prefix: (step_of(prefix), prefix))


def step_of(prefix: str) -> int:
    """The step in a checkpoint's name, ``model.ckpt-<step>``; -1 where it has none."""
    match = re.search(r'-(\d+)$', prefix)
    return int(match.group(1)) if match else -1


def _newest_in(folder: str) -> str:
    indexed = _indexed(folder)
    if indexed:
        return indexed
    for prefix in reversed(find_checkpoints(folder)):
        _check_complete(prefix)
        return prefix
    archives = sorted(name for name in os.listdir(folder) if name.lower().endswith(_ARCHIVES))
    raise CheckpointError('no checkpoint in the folder %s (looked for *.index files; a checkpoint '
                          'that is a single file has to be named itself%s)' % (
                              folder, f'; {archives[0]} has to be unpacked' if archives else ''))


def _indexed(folder: str) -> Optional[str]:
    """What the index file names, looked for in this folder: archives carry foreign paths."""
    index = os.path.join(folder, INDEX_FILE)
    if not os.path.isfile(index):
        return None
    name = indexed_name(folder)
    if name is None:
        logger.warning('%s cannot be read; taking the highest step', index)
        return None
    prefix = os.path.join(folder, name)
    if not os.path.exists(prefix + '.index') and not os.path.isfile(prefix):
        logger.warning('%s names %s, which is not there; taking the highest step', index, name)
        return None
    _check_complete(prefix)
    return prefix


def indexed_name(folder: str) -> Optional[str]:
    """The name, without folder, in a folder's index file; None without one that can be read."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except READ_ERRORS:
        return None
    return re.split(r'[/\\]', state.model_checkpoint_path)[-1] if state else None


def _check_complete(prefix: str) -> None:
    has_data = bool(glob.glob(glob.escape(prefix) + '.data-*'))
    if os.path.exists(prefix + '.index'):
        if not has_data:
            raise CheckpointError('%s.index has no %s.data-* file beside it; copy all files of the '
                                  'checkpoint' % (prefix, os.path.basename(prefix)))
    elif has_data:
        raise CheckpointError('%s.data-* has no %s.index beside it; copy all files of the '
                              'checkpoint' % (prefix, os.path.basename(prefix)))
    elif not os.path.isfile(prefix):
        raise CheckpointError('there is no checkpoint at %s; give a folder, a prefix such as '
                              'model.ckpt-1000, or one of its files' % prefix)


def files_of(prefix: str) -> List[str]:
    """The files of a checkpoint that exist, the one that makes it a checkpoint last."""
    return (sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))
            + glob.glob(glob.escape(prefix) + '.index'))


def leftovers_of(prefix: str) -> List[str]:
    """The files of a checkpoint that was being saved when a process was killed or a disk full."""
    escaped = glob.escape(prefix)
    left = glob.glob(escaped + '.*.tempstate*')
    if not os.path.exists(prefix + '.index'):
        left += glob.glob(escaped + '.data-?????-of-?????')
    return sorted(left)


def write_index(folder: str, prefixes: List[str]) -> None:
    """Makes the index file of a folder name these checkpoints of it, the last one as the newest.

    Args:
        folder: holds the checkpoints.
        prefixes: one or more.

    Raises:
        CheckpointError: it cannot be written.
    """
    names = [os.path.basename(prefix) for prefix in prefixes]
    try:
        # TensorFlow rewrites names where the folder's own path is relative.
        tf.train.update_checkpoint_state(os.path.abspath(folder), names[-1], names)
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError('%s cannot be written (%s)' % (
            os.path.join(folder, INDEX_FILE), first_line(error))) from error


def fingerprint(prefix: str) -> str:
    """Identifies a checkpoint by what it holds, whatever its name and time.

    Args:
        prefix: of a whole checkpoint.

    Returns:
        32 hexadecimal digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    # The index holds a checksum of every tensor. A V1 file has none, and is hashed itself.
    path = prefix + '.index' if os.path.exists(prefix + '.index') else prefix
    try:
        return file_digest(path)
    except OSError as error:
        raise CheckpointError('%s cannot be read (%s)' % (path, error.strerror)) from error
