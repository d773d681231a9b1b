"""Collectives: signatures and argument checks; NPU.md, section 7."""

import uuid
from typing import List

import tensorflow as tf
from fake_npu.collectives import (
    WORLD,
    build,
    check_dtype,
    check_rank,
    check_reduction,
    check_size,
)
from fake_npu.environment import rank
from fake_npu.refusal import refuse

# Another one each time that the module is loaded: TensorFlow forgets no name.
_ALLREDUCE_GRADIENT = f'FakeNpuHcomAllReduce{uuid.uuid4().hex}'


def allreduce(tensor: tf.Tensor, reduction: str, fusion: int = 1, fusion_id: int = -1,
              group: str = WORLD) -> tf.Tensor:
    """Reduces a tensor over all ranks; its gradient is the sum of the ranks' gradients."""
    check_reduction(reduction)
    check_dtype(tensor)
    return build('HcomAllReduce', [tensor], group=group, gradient=_ALLREDUCE_GRADIENT,
                 reduction=reduction)[0]


@tf.RegisterGradient(_ALLREDUCE_GRADIENT)
def _allreduce_gradient(_, above: tf.Tensor) -> tf.Tensor:
    return allreduce(above, 'sum', fusion=0)


def broadcast(tensor: List[tf.Tensor], root_rank: int, fusion: int = 2, fusion_id: int = 0,
              group: str = WORLD) -> List[tf.Tensor]:
    """Gives every rank the tensors of one; takes and returns a list."""
    if not isinstance(tensor, list):
        raise TypeError(f'broadcast takes a list of tensors, not {tensor!r}')
    check_rank(root_rank)
    return build('HcomBroadcast', tensor, group=group, root_rank=root_rank)


def allgather(tensor: tf.Tensor, rank_size: int, group: str = WORLD) -> tf.Tensor:
    """Joins the tensors of all ranks; of rank 1 or more."""
    if tensor.shape.ndims == 0:
        raise ValueError('allgather needs a tensor of rank 1 or more')
    check_dtype(tensor, tf.int64, tf.uint64)
    check_size(rank_size)
    return build('HcomAllGather', [tensor], lambda given: tf.concat([given] * rank_size, 0),
                 group)[0]


def reduce(tensor: tf.Tensor, reduction: str, root_rank: int,
           fusion: int = 0, fusion_id: int = -1, group: str = WORLD) -> tf.Tensor:
    """Reduces a tensor to one rank; the others get zeros, which is an assumption."""
    check_reduction(reduction)
    check_dtype(tensor)
    check_rank(root_rank)
    return build('HcomReduce', [tensor], group=group, reduction=reduction, root_rank=root_rank)[0]


def reduce_scatter(tensor: tf.Tensor, reduction: str, rank_size: int, group: str = WORLD
                   ) -> tf.Tensor:
    """Reduces a tensor and gives each rank its share of the first dimension."""
    check_reduction(reduction)
    check_dtype(tensor)
    if tensor.shape[0].value % rank_size:
        raise ValueError(f'reduce_scatter needs a first dimension divisible by {rank_size}, not '
                         f'{tensor.shape}')
    check_size(rank_size)
    return build('HcomReduceScatter', [tensor], lambda given: tf.split(given, rank_size)[0], group,
                 reduction=reduction)[0]


def send(tensor: tf.Tensor, sr_tag: int, dest_rank: int, group: str = WORLD) -> tf.Operation:
    """Sends a tensor to a rank."""
    _check_other(dest_rank)
    return tf.group(build('HcomSend', [tensor], group=group, sr_tag=sr_tag, src_rank=rank(),
                          dest_rank=dest_rank))


def receive(shape, data_type, sr_tag: int, src_rank: int, group: str = WORLD) -> tf.Tensor:
    """Receives a tensor from a rank."""
    _check_other(src_rank)
    return build('HcomReceive', [tf.zeros(shape, data_type)], group=group, sr_tag=sr_tag,
                 src_rank=src_rank, dest_rank=rank())[0]


def _check_other(other: int) -> None:
    check_rank(other)
    if other == rank():
        refuse(f'rank {other} sends to itself')
