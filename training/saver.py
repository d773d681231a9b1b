"""Writing checkpoints, and knowing which files of a folder are ours.

The checkpoints that training writes into ``--checkpoint_path`` are listed there, in
``training_files.json``, and its event files have a suffix of their own. Nothing else is
ever removed, so a downloaded checkpoint, notes, or another program's events in the same folder are
safe from rotation and from ``--overwrite``. The list also holds the seed of the run, for a run that
goes on without being told it again.
"""

import contextlib
import glob
import json
import os
from typing import Any, List, Optional

import tensorflow as tf
from tensorflow.python.training.saver import BaseSaverBuilder

from training.checkpoint import GLOBAL_STEP
from training.checkpoint_files import (
    INDEX_FILE,
    files_of,
    indexed_name,
    leftovers_of,
)
from training.summaries import EVENTS_SUFFIX, VALIDATION_FOLDER
from utils.errors import PSENetError, first_line
from utils.utils_tool import logger

PREFIX = 'model.ckpt'
MANIFEST = 'training_files.json'


def checkpoint_name(step: int) -> str:
    """The name that the checkpoint of a step gets."""
    return '%s-%d' % (PREFIX, step)


class Manifest:
    """The names of the checkpoints that training wrote into a folder, and the seed it wrote with.

    Attributes:
        seed: int, 0 .. 2**32 - 1; None where none is written down.
    """

    def __init__(self, folder: str):
        """Reads the folder's list; a folder without one has none of our checkpoints."""
        self._folder = folder
        self._path = os.path.join(folder, MANIFEST)
        self._names: List[str] = []
        self.seed: Optional[int] = None
        self._read()

    def _read(self) -> None:
        try:
            with open(self._path, encoding='utf-8') as file:
                content = json.load(file)
            names = [os.path.basename(name) for name in content['checkpoints']]
            self._names, self.seed = names, _checked_seed(content.get('seed'))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning('%s cannot be read (%s): no earlier checkpoint of this folder will be '
                           'removed', self._path, first_line(error))

    @property
    def _prefixes(self) -> List[str]:
        return [os.path.join(self._folder, name) for name in self._names]

    @property
    def leftovers(self) -> List[str]:
        """Files of listed checkpoints that did not get done."""
        return [path for prefix in self._prefixes for path in leftovers_of(prefix)]

    @property
    def checkpoints(self) -> List[str]:
        """Prefixes of our checkpoints that still exist, oldest first."""
        return [prefix for prefix in self._prefixes if os.path.exists(prefix + '.index')]

    def add(self, prefix: str) -> None:
        """Lists a checkpoint; called before it is written."""
        self.replace([other for other in self.checkpoints if other != prefix] + [prefix])

    def replace(self, prefixes: List[str]) -> None:
        """Lists these checkpoints and no others, and the seed."""
        self._names = [os.path.basename(prefix) for prefix in prefixes]
        partial = self._path + '.partial'
        with open(partial, 'w', encoding='utf-8') as file:
            json.dump({'checkpoints': self._names, 'seed': self.seed}, file, indent=1)
        os.replace(partial, self._path)


def _checked_seed(seed: Any) -> Optional[int]:
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2 ** 32):
        raise ValueError('the seed %r is none' % (seed,))
    return seed


def remove_earlier_run(folder: str) -> None:
    """Removes the checkpoints and event files that training wrote into a folder, nothing else.

    Args:
        folder: the run's folder; exists.

    Raises:
        PSENetError: a file cannot be removed.
    """
    manifest = Manifest(folder)
    paths = _event_files(folder) + _event_files(os.path.join(folder, VALIDATION_FOLDER))
    if indexed_name(folder) in [os.path.basename(prefix) for prefix in manifest.checkpoints]:
        paths.append(os.path.join(folder, INDEX_FILE))
    for prefix in manifest.checkpoints:
        paths += files_of(prefix)
    paths += manifest.leftovers
    try:
        for path in paths:
            os.remove(path)
        manifest.replace([])
    except OSError as error:
        raise PSENetError('--overwrite: the earlier run in %s cannot be removed (%s); remove it '
                          'yourself or name another folder' % (folder, error)) from error
    logger.info('--overwrite: removed %d files of an earlier run from %s', len(paths), folder)


def _event_files(folder: str) -> List[str]:
    return glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*' + EVENTS_SUFFIX))


class _FloatStep(BaseSaverBuilder.SaveableObject):
    """A step of whatever dtype as published checkpoints hold it: float32."""

    def __init__(self, step: tf.Variable):
        value = tf.to_float(step)
        super().__init__(step, [BaseSaverBuilder.SaveSpec(value, '', step.op.name)], step.op.name)

    def restore(self, restored_tensors, restored_shapes) -> tf.Operation:
        return tf.assign(self.op, tf.cast(restored_tensors[0], self.op.dtype.base_dtype))


def build_saver(keep: int) -> tf.train.Saver:
    """Builds the saving ops of all variables in the default graph.

    Args:
        keep: how many checkpoints stay.

    Returns:
        For ``CheckpointWriter``.
    """
    saved = [_FloatStep(variable)
             if variable.op.name == GLOBAL_STEP and variable.dtype.base_dtype != tf.float32
             else variable for variable in tf.global_variables()]
    return tf.train.Saver(saved, max_to_keep=keep, save_relative_paths=True)


class CheckpointWriter:
    """Saves ``model.ckpt-<step>``, keeps the newest few of this folder's own."""

    def __init__(self, folder: str, keep: int, saver: Optional[tf.train.Saver] = None,
                 seed: Optional[int] = None):
        """Reads which checkpoints of the folder are its own; removes those that did not get done.

        Args:
            folder: exists and is writable.
            keep: how many checkpoints stay.
            saver: made by ``build_saver``; built here when None.
            seed: to be written down with the checkpoints.
        """
        self._folder = folder
        self._manifest = Manifest(folder)
        self._manifest.seed = seed
        _remove_if_possible(self._manifest.leftovers)
        self._saver = saver or build_saver(keep)
        self._saver.set_last_checkpoints_with_time(
            [(prefix, os.path.getmtime(prefix + '.index'))
             for prefix in self._manifest.checkpoints[-keep:]])
        self.last_saved_step = -1

    def save(self, session: tf.Session, step: int) -> str:
        """Saves all variables.

        Args:
            session: holds them.
            step: the number in the file's name.

        Returns:
            The checkpoint's prefix.

        Raises:
            PSENetError: the folder cannot be written; earlier checkpoints are intact.
        """
        prefix = os.path.join(self._folder, PREFIX)
        try:
            self._manifest.add(os.path.join(self._folder, checkpoint_name(step)))
            saved = self._saver.save(session, prefix, global_step=step, write_meta_graph=False)
            self._remove_rotated()
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            # They would keep a full disk full.
            _remove_if_possible(self._manifest.leftovers)
            raise PSENetError(self._account_of(error, step)) from error
        self.last_saved_step = step
        logger.info('saved %s', saved)
        return saved

    def _account_of(self, error: Exception, step: int) -> str:
        account = 'the checkpoint of step %d cannot be written to %s' % (step, self._folder)
        if not os.path.isdir(self._folder):
            return account + ': the folder is gone'
        return ('%s (%s); earlier checkpoints are intact: free the disk or choose another folder '
                'and go on with --restore' % (account, first_line(error)))

    def _remove_rotated(self) -> None:
        """Removes what the saver, which drops one checkpoint a save, does not know of.

        A run that goes on with a smaller ``keep`` starts with more than it may keep.
        """
        for prefix in set(self._manifest.checkpoints) - set(self._saver.last_checkpoints):
            for path in files_of(prefix):
                os.remove(path)
        self._manifest.replace(self._saver.last_checkpoints)


def _remove_if_possible(paths: List[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.remove(path)
