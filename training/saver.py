"""Writing checkpoints into a run's directory, and removing only what training wrote there."""

import contextlib
import glob
import os
from typing import Any, Dict, List, Optional

import tensorflow as tf
from tensorflow.python.training.saver import BaseSaverBuilder

from training.checkpoint import GLOBAL_STEP
from training.checkpoint_files import (
    INDEX_FILE,
    files_of,
    indexed_name,
    leftovers_of,
    write_index,
)
from training.run_folder import PREFIX, Manifest, checkpoint_name
from training.summaries import EVENTS_SUFFIX, VALIDATION_FOLDER
from utils.errors import PSENetError, first_line
from utils.utils_tool import logger


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
    paths += _leftovers(manifest)
    try:
        for path in paths:
            os.remove(path)
        manifest.replace([])
    except OSError as error:
        raise PSENetError('--overwrite: the earlier run in %s cannot be removed (%s); remove it '
                          'yourself or name another folder' % (folder, error)) from error
    logger.info('--overwrite: removed %d files of an earlier run from %s', len(paths), folder)


def _leftovers(manifest: Manifest) -> List[str]:
    """Files of listed checkpoints that were not completed."""
    return [path for prefix in manifest.prefixes for path in leftovers_of(prefix)]


def _event_files(folder: str) -> List[str]:
    return glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*' + EVENTS_SUFFIX))


class _FloatStep(BaseSaverBuilder.SaveableObject):
    """A step of whatever dtype as published checkpoints hold it: float32."""

    def __init__(self, step: tf.Variable):
        value = tf.to_float(step)
        super().__init__(step, [BaseSaverBuilder.SaveSpec(value, '', step.op.name)], step.op.name)

    def restore(self, restored_tensors, restored_shapes) -> tf.Operation:
        return tf.assign(self.op, tf.cast(restored_tensors[0], self.op.dtype.base_dtype))


def build_saver() -> tf.train.Saver:
    """Builds the saving ops of all variables in the default graph, for ``CheckpointWriter``.

    The saver itself removes no checkpoint: TensorFlow takes the path of what it removes for a
    pattern, which in a directory ``run[1]`` finds nothing, and in ``run*`` other runs' files.
    """
    saved = [_FloatStep(variable)
             if variable.op.name == GLOBAL_STEP and variable.dtype.base_dtype != tf.float32
             else variable for variable in tf.global_variables()]
    return tf.train.Saver(saved, max_to_keep=0, save_relative_paths=True)


class CheckpointWriter:
    """Saves ``model.ckpt-<step>``, keeps the newest few of this folder's own."""

    def __init__(self, folder: str, keep: int, saver: Optional[tf.train.Saver] = None,
                 seed: Optional[int] = None, run_flags: Optional[Dict[str, Any]] = None):
        """Reads which checkpoints of the folder are its own; removes those that did not get done.

        Args:
            folder: exists and is writable.
            keep: how many checkpoints stay.
            saver: made by ``build_saver``; built here when None.
            seed: to be written down with the checkpoints.
            run_flags: values of the run's flags, to be written down as well.
        """
        self._folder = folder
        self._keep = keep
        self._manifest = Manifest(folder)
        self._manifest.seed = seed
        self._manifest.flags = dict(run_flags or {})
        _remove_if_possible(_leftovers(self._manifest))
        self._saver = saver or build_saver()
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
            saved = self._saver.save(session, prefix, global_step=step, write_meta_graph=False,
                                     write_state=False)
            self._keep_newest()
        except (tf.errors.OpError, OSError, ValueError, RuntimeError, PSENetError) as error:
            # They would keep a full disk full.
            _remove_if_possible(_leftovers(self._manifest))
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

    def _keep_newest(self) -> None:
        """Names the newest checkpoints in the index, then removes the others of this folder."""
        ours = self._manifest.checkpoints
        kept = ours[-self._keep:]
        write_index(self._folder, kept)
        for prefix in ours[:-self._keep]:
            for path in files_of(prefix):
                os.remove(path)
        self._manifest.replace(kept)


def _remove_if_possible(paths: List[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.remove(path)
