"""Where a run starts: a new folder, a cleared one, or the newest checkpoint of an earlier run."""

import os
import tempfile
from typing import Optional

import tensorflow as tf

from training.checkpoint import (
    Checkpoint,
    Load,
    build_pretrained,
    build_restore,
    open_checkpoint,
)
from training.checkpoint_files import INDEX_FILE, CheckpointError, find_checkpoints, step_of
from training.config import TrainConfig
from training.run_folder import MANIFEST, Manifest, checkpoint_name
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
        start = _checkpoint_to_restore(config)
        _check_nothing_in_the_way(config, start.global_step())
        return start
    if not config.overwrite and (find_checkpoints(folder)
                                 or os.path.exists(os.path.join(folder, INDEX_FILE))):
        raise PSENetError('--checkpoint_path=%s holds a checkpoint already: go on with --restore, '
                          'start anew with --overwrite, or name another folder' % folder)
    _check_nothing_in_the_way(config, 0)
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
    if os.path.isdir(os.path.join(folder, INDEX_FILE)):
        raise PSENetError('--checkpoint_path=%s has a folder named %s, where TensorFlow writes a '
                          'file of that name; choose another folder' % (folder, INDEX_FILE))


def _check_nothing_in_the_way(config: TrainConfig, first_step: int) -> None:
    """Refuses a run whose checkpoints would take the names of somebody else's."""
    folder = config.checkpoint_path
    ours = Manifest(folder).checkpoints
    for prefix in find_checkpoints(folder):
        step, name = step_of(prefix), os.path.basename(prefix)
        if (prefix not in ours and name == checkpoint_name(step)
                and first_step < step <= config.max_steps):
            raise PSENetError(
                '--checkpoint_path=%s holds %s, which %s does not list as written by training here '
                'and which this run would write over; move it away or name another folder'
                % (folder, name, MANIFEST))


def _checkpoint_to_restore(config: TrainConfig) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(config.checkpoint_path)
    except CheckpointError as error:
        # Nobody whose checkpoint is damaged is to be told to start anew: that would lose it.
        way_out = _way_out(config.checkpoint_path)
        raise CheckpointError(f'--restore: {error}; {way_out}') from error
    if config.pretrained_model_path:
        logger.info('--pretrained_model_path is not loaded again: %s has the weights',
                    checkpoint.prefix)
    return checkpoint


def _way_out(folder: str) -> str:
    found = find_checkpoints(folder)
    if len(found) > 1:
        return (f'move the files of {os.path.basename(found[-1])} away to go on from '
                f'{os.path.basename(found[-2])}')
    if found or os.path.exists(os.path.join(folder, INDEX_FILE)):
        return 'copy its files again from where they are intact'
    return 'without --restore a new run starts'


def seed_to_go_on_with(config: TrainConfig, start: Optional[Checkpoint]) -> Optional[int]:
    """The seed of a run: the one given, or else that of the run whose checkpoint it goes on from.

    Args:
        config: the run.
        start: what ``find_start`` returned.

    Returns:
        0 .. 2**32 - 1; None where none is known, and one is to be drawn.
    """
    if config.seed is not None or start is None:
        return config.seed
    manifest = Manifest(config.checkpoint_path)
    if manifest.seed is None or start.prefix not in manifest.checkpoints:
        return None
    logger.info('the seed of the training data is %d, as it was before', manifest.seed)
    return manifest.seed


def build_start(config: TrainConfig, start: Optional[Checkpoint],
                average: tf.train.ExponentialMovingAverage) -> Load:
    """Builds what gives a run's variables their pretrained or restored values.

    Args:
        config: the run.
        start: what ``find_start`` returned.
        average: the moving average of the training graph, which is the default graph.

    Returns:
        What gives them, once all variables are initialised; for a run from random weights it does
        nothing.

    Raises:
        CheckpointError: a file does not fit the network; where its data is damaged, the Load says.
    """
    if start is not None:
        return build_restore(start, average)
    if config.pretrained_model_path:
        return build_pretrained(config.pretrained_model_path, average)
    return lambda _: None


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
    load = build_start(config, start, average)
    session.run(tf.global_variables_initializer())
    load(session)
