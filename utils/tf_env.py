"""The environment that TensorFlow starts in: visible GPUs and a quiet log.

TensorFlow itself is not imported here: workers and entry scripts call this first.
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
        'GPUs to run on, as nvidia-smi numbers them, separated by commas (0,1); empty for the CPU.',
        **group('device'))


def parse_gpu_list(gpu_list: str) -> List[int]:
    """Reads ``--gpu_list``.

    Args:
        gpu_list: comma-separated GPU numbers, each once; empty for the CPU.

    Returns:
        The numbers in the order given.

    Raises:
        PSENetError: it holds something else.
    """
    names = [name.strip() for name in gpu_list.split(',')] if gpu_list.strip() else []
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(set(numbers)) != len(names):
        raise PSENetError(f'--gpu_list={gpu_list} must be GPU numbers separated by commas, each '
                          'once, such as 0,1, or empty for the CPU')
    return numbers


def configure_tensorflow(gpu_list: str) -> None:
    """Chooses the GPUs that TensorFlow will see and keeps its start-up chatter off the screen.

    Values of CUDA_DEVICE_ORDER and TF_CPP_MIN_LOG_LEVEL that the user has set are left alone.

    Args:
        gpu_list: comma-separated GPU numbers as nvidia-smi shows them; empty for none.

    Raises:
        PSENetError: see ``parse_gpu_list``.
    """
    gpus = parse_gpu_list(gpu_list)
    os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(map(str, gpus))
    # CUDA's own order is by speed; nvidia-smi's is by bus.
    os.environ.setdefault('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')
    # A machine without a GPU is told so by TensorFlow at level 2 ("failed call to cuInit"), which
    # is not new to somebody who asked for the CPU.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2' if gpus else '3')
    logging.getLogger('tensorflow').setLevel(logging.ERROR)


def hide_gpus() -> None:
    """Keeps TensorFlow off the GPUs of a machine whose other devices are to be used.

    The adapter of such a device reports its errors through TensorFlow's log, so those stay on; a
    value of TF_CPP_MIN_LOG_LEVEL that the user has set is left alone.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    configure_tensorflow('')


def warn_of_missing_gpus(gpu_list: str, device_types: Iterable[str]) -> None:
    """Logs a warning when TensorFlow sees fewer GPUs than were asked for and so takes the CPU.

    Args:
        gpu_list: as given on the command line.
        device_types: ``device_type`` of each of ``tf.Session.list_devices()``.
    """
    wanted = len(parse_gpu_list(gpu_list))
    found = sum(device_type == 'GPU' for device_type in device_types)
    if found < wanted:
        logger.warning('--gpu_list=%s asks for %d GPU(s) and TensorFlow sees %d: the CPU does the '
                       'rest, which takes many times longer (--gpu_list="" if that is meant)',
                       gpu_list, wanted, found)
