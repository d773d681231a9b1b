"""Collectives: signatures and argument checks; NPU.md, section 7.

Nothing is sent between processes: with one rank no script may build a collective, and with several
the op that would need another process is refused.
"""

from typing import List

import tensorflow as tf
from fake_npu.collectives import check_dtype, check_reduction, refuse

_WORLD = 'hccl_world_group'


def allreduce(tensor: tf.Tensor, reduction: str, fusion: int = 1, fusion_id: int = -1,
              group: str = _WORLD) -> tf.Tensor:
    """Reduces a tensor over all ranks."""
    check_reduction(reduction)
    check_dtype(tensor)
    return refuse('HcomAllReduce')


def broadcast(tensor: List[tf.Tensor], root_rank: int, fusion: int = 2, fusion_id: int = 0,
              group: str = _WORLD) -> List[tf.Tensor]:
    """Gives every rank the tensors of one; takes and returns a list."""
    if not isinstance(tensor, list):
        raise TypeError('broadcast takes a list of tensors, not %r' % (tensor,))
    return refuse('HcomBroadcast')


def allgather(tensor: tf.Tensor, rank_size: int, group: str = _WORLD) -> tf.Tensor:
    """Joins the tensors of all ranks; of rank 1 or more."""
    if tensor.shape.ndims == 0:
        raise ValueError('allgather needs a tensor of rank 1 or more')
    check_dtype(tensor, tf.int64, tf.uint64)
    return refuse('HcomAllGather')


def reduce(tensor: tf.Tensor, reduction: str, root_rank: int,
           fusion: int = 0, fusion_id: int = -1, group: str = _WORLD) -> tf.Tensor:
    """Reduces a tensor to one rank."""
    check_reduction(reduction)
    check_dtype(tensor)
    return refuse('HcomReduce')


def reduce_scatter(tensor: tf.Tensor, reduction: str, rank_size: int, group: str = _WORLD
                   ) -> tf.Tensor:
    """Reduces a tensor and gives each rank its share of the first dimension."""
    check_reduction(reduction)
    check_dtype(tensor)
    if tensor.shape[0].value % rank_size:
        raise ValueError('reduce_scatter needs a first dimension divisible by %d, not %s'
                         % (rank_size, tensor.shape))
    return refuse('HcomReduceScatter')


def send(tensor: tf.Tensor, sr_tag: int, dest_rank: int, group: str = _WORLD) -> tf.Operation:
    """Sends a tensor to a rank."""
    return refuse('HcomSend')


def receive(shape, data_type, sr_tag: int, src_rank: int,
            group: str = _WORLD) -> tf.Tensor:
    """Receives a tensor from a rank."""
    return refuse('HcomReceive')
