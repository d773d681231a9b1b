"""What a process owes to the others that it trains with: a log of its own, and one word for all.

Every process runs the same steps. Rank 0 alone writes checkpoints, events and the console; what a
run does at the same step in every process is agreed within it (see ``TrainGraph.stop_votes``).
"""

import logging
import os
from contextlib import contextmanager
from typing import Iterator

import tensorflow as tf

from training.devices.device import Device
from utils.errors import PSENetError
from utils.utils_tool import log_to, logger


class PeerError(PSENetError):
    """A run that several processes share cannot go on because of another process."""


def log_path(folder: str, rank: int) -> str:
    """The log file of a process whose rank is not 0."""
    return os.path.join(folder, f'rank_{rank}.log')


@contextmanager
def rank_log(folder: str, rank: int) -> Iterator[None]:
    """Sends the log of every process but rank 0 into a file of its own.

    Args:
        folder: of the run; made when it does not exist.
        rank: this process's.

    Raises:
        PSENetError: the file cannot be written.
    """
    if rank == 0:
        yield
        return
    path, handlers = log_path(folder, rank), logger.handlers[:]
    try:
        os.makedirs(folder, exist_ok=True)
        handler = logging.FileHandler(path, encoding='utf-8')
    except OSError as error:
        raise PSENetError(f'--checkpoint_path: the log {path} cannot be written '
                          f'({error.strerror}); choose another folder') from error
    log_to(handler)
    try:
        yield
    except PSENetError as error:
        logger.error('%s', error)
        raise
    finally:
        logger.handlers[:] = handlers
        handler.close()


@contextmanager
def named_peer_failures(device: Device) -> Iterator[None]:
    """Turns the failure of an op that needs other processes into a sentence.

    Raises:
        PeerError: one of them has gone. Some of a step's gradients may have been applied and
            others not, so nothing may be saved after it.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not device.is_peer_failure(error):
            raise
        # The first sentence says it; advice for programmers follows.
        cause = error.message.strip().splitlines()[0].split('. ')[0]
        raise PeerError(
            f'rank {device.rank} of {device.world_size} processes lost another one in the middle '
            f'of a step ({cause}); earlier checkpoints are intact: see what the other logs end '
            'with, and go on with --restore') from error


def check_same_step(session: tf.Session, own_step: int) -> None:
    """Refuses a process that would go on from another checkpoint than rank 0 does.

    Args:
        session: has rank 0's variables.
        own_step: where this process found the run to go on from, and reads its data from.

    Raises:
        PeerError: they differ.
    """
    step = int(session.run(tf.get_collection(tf.GraphKeys.GLOBAL_STEP)[0]))
    if step != own_step:
        raise PeerError(f'this process found step {own_step} in --checkpoint_path and rank 0 step '
                        f'{step}; give all processes the same folder, or copies of it')
