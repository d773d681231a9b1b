"""What the collectives check, and their refusal to reach another process; NPU.md, section 7."""

from typing import NoReturn

import tensorflow as tf

from fake_npu.release import since

_REDUCTIONS = ('min', 'max', 'prod', 'sum')


class CollectiveError(RuntimeError):
    """A graph holds a collective, which this fake cannot carry out."""


def check_reduction(reduction: str) -> None:
    """Raises ValueError for a reduction that does not exist."""
    if reduction not in _REDUCTIONS:
        raise ValueError('reduction=%r must be one of %s' % (reduction, ', '.join(_REDUCTIONS)))


def check_dtype(tensor: tf.Tensor, *further: tf.DType) -> None:
    """Raises TypeError for a dtype that the op does not take."""
    known = {tf.int8, tf.int16, tf.int32, tf.float16, tf.float32, *further}
    if since('master'):
        known |= {tf.int64, tf.bfloat16}
    if tensor.dtype.base_dtype not in known:
        raise TypeError('%s has dtype %s, which the collective does not take'
                        % (tensor.name, tensor.dtype.base_dtype.name))


def refuse(op: str) -> NoReturn:
    """Says that processes are not connected.

    Raises:
        CollectiveError: always.
    """
    raise CollectiveError('%s: the fake npu_bridge does not connect processes; run with '
                          'RANK_SIZE=1 or unset' % op)
