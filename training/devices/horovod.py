"""Distributed training over Horovod, on GPUs or CPUs of one or more machines.

Only this module uses Horovod; it is imported just before the graph is built.
"""

import importlib.util
from typing import Any, Optional, Sequence, Tuple

import tensorflow as tf

from training.devices.gpu import GpuDevice
from training.devices.launcher import RankInfo
from utils.errors import PSENetError

# Message of every Horovod op after a process has exited or was killed.
_PEER_IS_GONE = 'Horovod has been shut down'


class HorovodDevice(GpuDevice):
    """The GPU or CPU of one of ``rank_info.world_size`` processes.

    Gradients are averaged over the processes. Dice loss and batch normalisation use the batch of
    each process, as they use that of each tower in a single process.
    """

    def __init__(self, gpu: str, rank_info: RankInfo):
        """Checks that Horovod is installed, without loading it.

        Args:
            gpu: number of the process's GPU; empty for the CPU.
            rank_info: rank of the process.

        Raises:
            PSENetError: Horovod is not installed.
        """
        super().__init__(gpu)
        if importlib.util.find_spec('horovod') is None:
            raise PSENetError('--distributed=horovod: Horovod is not installed for this Python; '
                              '`make setup-horovod` builds it into .venv')
        self._rank_info = rank_info
        self._hvd: Any = None

    @property
    def rank(self) -> int:
        return self._rank_info.rank

    @property
    def world_size(self) -> int:
        return self._rank_info.world_size

    def prepare(self) -> None:
        """Connects all processes.

        Raises:
            PSENetError: Horovod cannot be loaded, cannot reach the others, or its ranks differ from
                those in the environment.
        """
        super().prepare()
        self._hvd = _import_horovod()
        found = self._connect()
        if found != (self.rank, self.world_size):
            raise PSENetError('Horovod reports rank %d of %d, but the environment rank %d of %d; '
                              'start the job with horovodrun'
                              % (*found, self.rank, self.world_size))

    def _connect(self) -> Tuple[int, int]:
        try:
            self._hvd.init()
            return self._hvd.rank(), self._hvd.size()
        except ValueError as error:
            raise PSENetError(f'rank {self.rank} of {self.world_size} processes could not reach '
                              f'the others ({error}); see the end of their logs, and '
                              'docs/distributed.md for choosing the network') from error

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Makes ``compute_gradients`` return the mean over the processes."""
        if self.world_size == 1:
            return optimizer
        return self._hvd.DistributedOptimizer(optimizer, op=self._hvd.Average)

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """Uses a single all-reduce for the vector."""
        if self.world_size == 1:
            return values
        return self._hvd.allreduce(values, op=self._hvd.Average)

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """Builds one broadcast per variable, which run in parallel."""
        if self.world_size == 1:
            return None
        return self._hvd.broadcast_variables(variables, root_rank=0)

    def is_peer_failure(self, error: tf.errors.OpError) -> bool:
        """Checks the message, as the type, UnknownError, is not specific."""
        return _PEER_IS_GONE in error.message


def _import_horovod() -> Any:
    try:
        import horovod.tensorflow as hvd
    except (ImportError, OSError) as error:
        raise PSENetError('Horovod is installed but cannot be loaded '
                          f'({str(error).splitlines()[0]}); remove .venv/setup/horovod and run '
                          '`make setup-horovod` to rebuild it') from error
    return hvd
