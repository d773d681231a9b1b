"""The interface between the training loop and the hardware.

A new kind of device is one subclass and one entry script; the loop, the graph and the checkpoints
know nothing else about it.
"""

import abc
from typing import ContextManager, Dict, NamedTuple, Optional, Sequence

import tensorflow as tf


class Limits(NamedTuple):
    """Limits beyond which training counts as diverged, besides NaN and Inf."""

    max_loss: float = float('inf')   # of the total loss
    max_skipped_steps: int = 0       # in a row; more of them end the run


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
        """Whether the wrapped optimizer skips updates whose gradients overflowed.

        Such a step must not advance ``global_step``. The graph then keeps back all else that an
        update brings: batch normalisation's statistics and the moving average of the weights.
        """
        return False

    @property
    def limits(self) -> Limits:
        """The limits of the divergence guard on this device."""
        return UNLIMITED

    @abc.abstractmethod
    def prepare(self) -> None:
        """Checks the device; called once, when the readers run and before the graph is built."""

    @abc.abstractmethod
    def tower_scope(self, index: int) -> ContextManager:
        """The placement scope in which tower ``index`` is built."""

    @abc.abstractmethod
    def session_config(self) -> tf.ConfigProto:
        """The configuration of every session of the process."""

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """The optimizer with whatever the device adds to it (all-reduce, loss scaling)."""
        return optimizer

    def step_scalars(self) -> Dict[str, tf.Tensor]:
        """Scalars by name that the device reports after a step's update.

        Called once, when the optimizer has been wrapped and its update stands in the graph.
        """
        return {}

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """The mean over all processes of a float32 vector; every process must call it."""
        return values

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """An op that broadcasts rank 0's variables to all processes; None for a single process.

        Called when all variables exist; every process runs the op at the same point of its run.
        """
        return None

    def is_peer_failure(self, error: tf.errors.OpError) -> bool:
        """Whether an op failed because another process is gone."""
        return False
