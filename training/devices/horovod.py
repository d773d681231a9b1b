"""One of several processes that train together over Horovod, on GPUs or CPUs of any machines.

This module alone knows Horovod, and imports it only when a run is about to build its graph.
"""

import importlib.util
from typing import Any, Optional, Sequence, Tuple

import tensorflow as tf

from training.devices.gpu import GpuDevice
from training.devices.launcher import RankInfo
from utils.errors import PSENetError

# What every op of Horovod fails with once a process has gone, whether it was killed or has left.
_PEER_IS_GONE = 'Horovod has been shut down'


class HorovodDevice(GpuDevice):
    """This process's GPU, or the CPU, as one of ``rank_info.world_size`` processes.

    Gradients are averaged over the processes. The dice sums of the loss and batch normalisation
    run over the batch of each process, as they do over that of each tower of a process.
    """

    def __init__(self, gpu: str, rank_info: RankInfo):
        """Checks that Horovod is installed, without loading it.

        Args:
            gpu: number of the process's GPU; empty for the CPU.
            rank_info: which of the processes it is.

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
        """Connects the processes; waits for all of them.

        Raises:
            PSENetError: Horovod cannot be loaded, does not reach the others, or numbers the
                processes in another way than their environment does.
        """
        super().prepare()
        self._hvd = _import_horovod()
        found = self._connect()
        if found != (self.rank, self.world_size):
            raise PSENetError('for Horovod this is process %d of %d, for its environment process '
                              '%d of %d, counted from 0; start the job with horovodrun'
                              % (*found, self.rank, self.world_size))

    def _connect(self) -> Tuple[int, int]:
        try:
            self._hvd.init()
            return self._hvd.rank(), self._hvd.size()
        except ValueError as error:
            raise PSENetError(f'rank {self.rank} of {self.world_size} processes could not reach '
                              f'the others ({error}); see what their logs end with, and '
                              'docs/distributed.md for choosing the network') from error

    def wrap_optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Lets ``compute_gradients`` return the mean over the processes."""
        if self.world_size == 1:
            return optimizer
        return self._hvd.DistributedOptimizer(optimizer, op=self._hvd.Average)

    def mean_over_ranks(self, values: tf.Tensor) -> tf.Tensor:
        """One all-reduce of the whole vector."""
        if self.world_size == 1:
            return values
        return self._hvd.allreduce(values, op=self._hvd.Average)

    def broadcast_op(self, variables: Sequence[tf.Variable]) -> Optional[tf.Operation]:
        """A broadcast for each variable; they run side by side."""
        if self.world_size == 1:
            return None
        return self._hvd.broadcast_variables(variables, root_rank=0)

    def is_peer_failure(self, error: tf.errors.OpError) -> bool:
        """Goes by the message: the error's type, UnknownError, says nothing."""
        return _PEER_IS_GONE in error.message


def _import_horovod() -> Any:
    try:
        import horovod.tensorflow as hvd
    except (ImportError, OSError) as error:
        raise PSENetError('Horovod is installed and cannot be loaded '
                          f'({str(error).splitlines()[0]}); remove .venv/setup/horovod, and `make '
                          'setup-horovod` builds it anew') from error
    return hvd
