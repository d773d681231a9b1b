"""Interface between the training loop and the hardware.

A new device needs a subclass and an entry script; the loop, the graph and the checkpoints only use
this interface.
"""

import abc
from typing import ContextManager, Dict, NamedTuple, Optional, Sequence

import tensorflow as tf


class Limits(NamedTuple):
    """Limits beyond which training counts as diverged, in addition to NaN and Inf."""

    max_loss: float = float('inf')   # maximum of the total loss
    max_skipped_steps: int = 0       # maximum number of consecutive skipped steps


UNLIMITED = Limits()


class Device(abc.ABC):
    """The hardware that the graph runs on, and this process's rank."""

    @property
    @abc.abstractmethod
    def num_towers(self) -> int:
        """The number of towers in this process; each takes an equal share of the batch."""

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""
        return 0

    @property
    def world_size(self) -> int:
        """The number of processes that train together."""
        return 1

    @property
    def may_skip_steps(self) -> bool:
        """True if the wrapped optimizer skips updates whose gradients overflowed.

        Such a step must not advance ``global_step``. The graph then also skips the updates of
        batch-norm statistics and of the moving average of the weights.
        """
        return False

    @property
    def limits(self) -> Limits:
        """The limits of the divergence guard on this device."""
        return UNLIMITED

    @abc.abstractmethod
    def prepare(self) -> None:
        """Checks the device; called once, after the readers start and before the graph is built."""

    @abc.abstractmethod
    def tower_scope(self, index: int) -> ContextManager:
        """Returns the placement scope of tower ``index``."""

    @abc.abstractmethod
    def session_config(self) -> tf.ConfigProto:
        """Returns the configuration of every session of the process."""

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Adds all-reduce, loss scaling and the like to the optimizer."""
        return optimizer

    def step_scalars(self) -> Dict[str, tf.Tensor]:
        """Returns scalars by name that the device reports after an update.

        Called once, after the optimizer was wrapped and its update was built.
        """
        return {}

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """Averages a float32 vector over all processes; every process must call it."""
        return values

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """Builds an op that broadcasts rank 0's variables; None for a single process.

        Called when all variables exist; all processes run the op at the same point.
        """
        return None

    def is_peer_failure(self, error: tf.errors.OpError) -> bool:
        """Returns True if an op failed because another process is gone."""
        return False
