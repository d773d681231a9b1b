"""The environment of TensorFlow: visible GPUs and the level of its log.

This module does not import TensorFlow, which reads the environment when it is imported.
"""

import logging
import os
from typing import Iterable, List

from absl import flags

from utils.cli import group
from utils.errors import PSENetError
from utils.utils_tool import logger


def define_gpu_flag() -> None:
    """Defines ``--gpu_list`` (absl; call once, in an entry script)."""
    flags.DEFINE_string(
        'gpu_list', '0',
        'GPUs to use, numbered as in nvidia-smi and separated by commas (0,1); empty for the CPU.',
        **group('device'))


def parse_gpu_list(gpu_list: str) -> List[int]:
    """Parses ``--gpu_list``.

    Args:
        gpu_list: comma-separated GPU numbers, each once; empty for the CPU.

    Returns:
        The numbers in the given order.

    Raises:
        PSENetError: it contains anything else.
    """
    names = [name.strip() for name in gpu_list.split(',')] if gpu_list.strip() else []
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(set(numbers)) != len(names):
        raise PSENetError(f'--gpu_list={gpu_list} must be GPU numbers separated by commas, each '
                          'once, such as 0,1, or empty for the CPU')
    return numbers


def configure_tensorflow(gpu_list: str) -> None:
    """Makes GPUs visible to TensorFlow and suppresses its startup messages.

    CUDA_DEVICE_ORDER and TF_CPP_MIN_LOG_LEVEL keep any values that the user has set.

    Args:
        gpu_list: comma-separated GPU numbers as in nvidia-smi; empty for none.

    Raises:
        PSENetError: see ``parse_gpu_list``.
    """
    gpus = parse_gpu_list(gpu_list)
    os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(map(str, gpus))
    # By default CUDA orders GPUs by speed, and nvidia-smi by bus.
    os.environ.setdefault('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')
    # At level 2, TensorFlow reports the lack of a GPU as an error ("failed call to cuInit"), which
    # is of no use to a user who chose the CPU.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2' if gpus else '3')
    logging.getLogger('tensorflow').setLevel(logging.ERROR)


def hide_gpus() -> None:
    """Hides the GPUs from TensorFlow, for another kind of device.

    The device's adapter reports errors through TensorFlow's log, so errors stay visible.
    TF_CPP_MIN_LOG_LEVEL keeps any value that the user has set.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    configure_tensorflow('')


def warn_of_missing_gpus(gpu_list: str, device_types: Iterable[str]) -> None:
    """Logs a warning if TensorFlow finds fewer GPUs than were requested.

    Args:
        gpu_list: value of ``--gpu_list``.
        device_types: ``device_type`` of each of ``tf.Session.list_devices()``.
    """
    wanted = len(parse_gpu_list(gpu_list))
    found = sum(device_type == 'GPU' for device_type in device_types)
    if found < wanted:
        logger.warning('--gpu_list=%s requests %d GPU(s), but TensorFlow finds %d: the CPU does '
                       'the rest, many times more slowly (--gpu_list="" if that is intended)',
                       gpu_list, wanted, found)
