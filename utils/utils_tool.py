"""The project's logger and the constants of the network that several packages use."""

import logging
import signal
import sys
from typing import NamedTuple, Tuple


class Constants(NamedTuple):
    """The constants of the network; all of them are defined here."""

    # Shrink ratio of each score map, smallest kernel first (paper, section 3.3; m = 0.5, n = 6).
    KERNEL_SCALES: Tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    NUM_KERNELS: int = 6
    # Input pixels per score-map pixel.
    STRIDE: int = 4
    # The sides of the network's input must be multiples of this.
    SIDE_MULTIPLE: int = 32
    # ImageNet channel means with which slim's checkpoints were trained, in RGB order.
    MEAN_RGB: Tuple[float, float, float] = (123.68, 116.78, 103.94)
    EMA_DECAY: float = 0.997


cfg = Constants()
# Signals after which a run saves and stops: from a user, a job manager, a closing terminal, and a
# scheduler that is about to reclaim the machine.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
logger = logging.getLogger('psenet')

_LOG_FORMAT = '%(asctime)s %(levelname)s] %(message)s'


def configure_logging() -> None:
    """Sends the project's log to stderr; entry scripts call this once."""
    log_to(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO)
    logger.propagate = False


def log_to(handler: logging.Handler) -> None:
    """Sends the project's log to a handler and nowhere else."""
    handler.setFormatter(logging.Formatter(_LOG_FORMAT, '%Y-%m-%d %H:%M:%S'))
    logger.handlers[:] = [handler]
