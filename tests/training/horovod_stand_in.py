"""Stands for ``horovod.tensorflow`` in the process of a test: two processes, one of them made up.

The signatures are those of Horovod 0.28.1, of the functions that are used; a test that runs where
Horovod is installed compares them.
"""

import contextlib
import importlib.machinery
import sys
import types
from unittest import mock

import tensorflow as tf

Average = 'average'
global_process_set = None
Compression = types.SimpleNamespace(none=None)


class HorovodStandIn:
    """What the made-up partner holds, and what this process has been asked for."""

    Average = Average

    def __init__(self, rank=0, size=2, partner=0.0):
        """Takes this process's place and the value that the partner adds to every mean."""
        self._place = (rank, size)
        self._partner = partner
        self._connected = False

    def init(self, *args, **kwargs):
        self._connected = True

    def rank(self):
        return self._answer(0)

    def size(self):
        return self._answer(1)

    def _answer(self, index):
        if not self._connected:
            raise ValueError('Horovod has not been initialized; use hvd.init().')
        return self._place[index]

    def allreduce(self, tensor, average=None, device_dense='', device_sparse='',
                  compression=Compression.none, op=None, prescale_factor=1.0, postscale_factor=1.0,
                  name=None, process_set=global_process_set, ignore_name_scope=False):
        assert op == Average
        return (tensor + self._partner) / 2

    def broadcast_variables(self, variables, root_rank, process_set=global_process_set,
                            inplace=False):
        """Rank 0's value of every variable is the partner's."""
        assert root_rank == 0
        return tf.group(*[tf.assign(variable, tf.fill(variable.shape, self._partner))
                          for variable in variables])

    def DistributedOptimizer(self, optimizer, name=None, use_locking=False, device_dense='',
                             device_sparse='', compression=Compression.none,
                             sparse_as_dense=False, backward_passes_per_step=1, op=Average,
                             gradient_predivide_factor=1.0, average_aggregated_gradients=False,
                             num_groups=0, groups=None, process_set=global_process_set,
                             scale_local_gradients=True):
        return _Averaging(optimizer, lambda tensor: self.allreduce(tensor, op=op))


class _Averaging(tf.train.Optimizer):

    def __init__(self, optimizer, reduce):
        super().__init__(use_locking=False, name='Averaging')
        self._optimizer = optimizer
        self._reduce = reduce

    def compute_gradients(self, *args, **kwargs):
        return [(gradient if gradient is None else self._reduce(gradient), variable)
                for gradient, variable in self._optimizer.compute_gradients(*args, **kwargs)]

    def apply_gradients(self, *args, **kwargs):
        return self._optimizer.apply_gradients(*args, **kwargs)


@contextlib.contextmanager
def stand_in(hvd):
    """Lets ``import horovod.tensorflow`` find ``hvd``, an object or an error to raise."""
    package = types.ModuleType('horovod')
    package.__spec__ = importlib.machinery.ModuleSpec('horovod', None, is_package=True)
    package.tensorflow = hvd
    with mock.patch.dict(sys.modules, {'horovod': package, 'horovod.tensorflow': hvd}):
        yield
