"""Training with several processes: a log file per rank, and errors of the other processes.

Every process runs the same steps. Only rank 0 writes checkpoints, events and to the console. The
processes agree within a step when to stop (see ``TrainGraph.stop_votes``).
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
    """This process cannot continue because of another one."""


def log_path(directory: str, rank: int) -> str:
    """The log file of a process whose rank is not 0."""
    return os.path.join(directory, f'rank_{rank}.log')


@contextmanager
def rank_log(directory: str, rank: int) -> Iterator[None]:
    """Redirects the log of every process except rank 0 to a file of its own.

    Args:
        directory: of the run; created if it does not exist.
        rank: of this process.

    Raises:
        PSENetError: the file cannot be written.
    """
    if rank == 0:
        yield
        return
    path, handlers = log_path(directory, rank), logger.handlers[:]
    try:
        os.makedirs(directory, exist_ok=True)
        handler = logging.FileHandler(path, encoding='utf-8')
    except OSError as error:
        raise PSENetError(f'--checkpoint_path: the log {path} cannot be written '
                          f'({error.strerror}); choose another directory') from error
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
    """Turns the failure of an op that needs other processes into a clear message.

    Raises:
        PeerError: a process was lost. The gradients of the step may have been applied in part, so
            nothing may be saved afterwards.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not device.is_peer_failure(error):
            raise
        # The first sentence gives the cause; advice for programmers follows.
        cause = error.message.strip().splitlines()[0].split('. ')[0]
        raise PeerError(
            f'rank {device.rank} of {device.world_size} processes lost another one during a step '
            f'({cause}); earlier checkpoints are intact: look at the end of the other logs, and '
            'continue with --restore') from error


def check_same_step(session: tf.Session, own_step: int) -> None:
    """Checks that this process continues from the same checkpoint as rank 0.

    Args:
        session: has the variables of rank 0.
        own_step: step of the checkpoint that this process found.

    Raises:
        PeerError: the steps differ.
    """
    step = int(session.run(tf.get_collection(tf.GraphKeys.GLOBAL_STEP)[0]))
    if step != own_step:
        raise PeerError(f'this process found step {own_step} in --checkpoint_path, but rank 0 '
                        f'found step {step}; give all processes the same directory or copies of it')
