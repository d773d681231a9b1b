"""Where a run starts: a new folder, a cleared one, or the newest checkpoint of an earlier run."""

import os
import tempfile
from typing import Optional

import tensorflow as tf

from training.checkpoint import (
    Checkpoint,
    CheckpointError,
    find_checkpoints,
    load_pretrained,
    open_checkpoint,
    restore_for_training,
)
from training.config import TrainConfig
from utils.errors import PSENetError
from utils.utils_tool import logger


def find_start(config: TrainConfig) -> Optional[Checkpoint]:
    """Checks the checkpoint folder and the files to start from; changes nothing in them.

    Args:
        config: the run.

    Returns:
        The checkpoint to go on from; None for a new run.

    Raises:
        PSENetError: the folder cannot be written, holds a checkpoint that neither ``--restore`` nor
            ``--overwrite`` speaks of, or what is to be loaded cannot be read.
    """
    folder = config.checkpoint_path
    _check_writable(folder)
    if config.restore:
        return _checkpoint_to_restore(config)
    if not config.overwrite and (find_checkpoints(folder)
                                 or os.path.exists(os.path.join(folder, 'checkpoint'))):
        raise PSENetError('--checkpoint_path=%s holds a checkpoint already: go on with --restore, '
                          'start anew with --overwrite, or name another folder' % folder)
    if config.pretrained_model_path:
        open_checkpoint(config.pretrained_model_path)
    return None


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PSENetError('--checkpoint_path=%s cannot be written (%s); choose another folder'
                          % (folder, error.strerror)) from error


def _checkpoint_to_restore(config: TrainConfig) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(config.checkpoint_path)
    except CheckpointError as error:
        raise CheckpointError('--restore: %s; without --restore a new run starts'
                              % error) from error
    if config.pretrained_model_path:
        logger.info('--pretrained_model_path is not loaded again: %s has the weights',
                    checkpoint.prefix)
    return checkpoint


def initialise(session: tf.Session, config: TrainConfig, start: Optional[Checkpoint],
               average: tf.train.ExponentialMovingAverage) -> None:
    """Gives every variable its first value: random, then pretrained or restored.

    Args:
        session: a session with the training graph.
        config: the run.
        start: what ``find_start`` returned.
        average: the graph's moving average.

    Raises:
        CheckpointError: a file does not fit the network, or its data is damaged.
    """
    session.run(tf.global_variables_initializer())
    if start is not None:
        restore_for_training(session, start, average)
    elif config.pretrained_model_path:
        load_pretrained(session, config.pretrained_model_path, average)
