"""Collectives in a graph: what they check, and the ops that stand for them; NPU.md, section 7.

A collective is two halves. The first, named as the op of the device, holds what this rank gives;
the second is a placeholder, into which a run of the session feeds what comes back (``group_runs``).
"""

from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple
from weakref import WeakKeyDictionary

import tensorflow as tf

from fake_npu.environment import rank, rank_size
from fake_npu.refusal import refuse
from fake_npu.release import not_established, since

WORLD = 'hccl_world_group'
# Nothing is registered under it, which makes differentiating an error.
_NO_GRADIENT = 'FakeNpuNoGradient'
_REDUCTIONS = ('min', 'max', 'prod', 'sum')


class CollectiveError(RuntimeError):
    """A graph gets a collective that cannot be carried out here."""


class Collective(NamedTuple):
    """A collective of a graph."""

    op: str
    settings: Tuple                  # (name, value) pairs
    given: Sequence[tf.Tensor]
    received: Sequence[tf.Tensor]    # placeholders

    def members(self) -> Tuple[int, ...]:
        """The ranks that take part."""
        settings = dict(self.settings)
        if 'src_rank' in settings:
            return settings['src_rank'], settings['dest_rank']
        return tuple(range(rank_size()))

    def gives(self) -> bool:
        """Whether another rank needs this one's tensors."""
        settings = dict(self.settings)
        if self.op == 'HcomBroadcast':
            return rank() == settings['root_rank']
        return rank() == settings.get('src_rank', rank())


_of_graph: Dict[tf.Graph, List[Collective]] = WeakKeyDictionary()


def collectives_in(graph: tf.Graph, reached: FrozenSet[tf.Operation]) -> List[Collective]:
    """The collectives among the ops that a run executes, in the order in which they were built."""
    return [collective for collective in _of_graph.get(graph, [])
            if any(tensor.op in reached for tensor in collective.received)]


def check_reduction(reduction: str) -> None:
    """Raises ValueError for a reduction that does not exist."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} must be one of {', '.join(_REDUCTIONS)}")


def check_dtype(tensor: tf.Tensor, *further: tf.DType) -> None:
    """Raises TypeError for a dtype that the op does not take."""
    known = {tf.int8, tf.int16, tf.int32, tf.float16, tf.float32, *further}
    if since('master'):
        known |= {tf.int64, tf.bfloat16}
    if tensor.dtype.base_dtype not in known:
        raise TypeError(f'{tensor.name} has dtype {tensor.dtype.base_dtype.name}, which the '
                        'collective does not take')


def check_rank(number: int) -> None:
    """Refuses what is no rank of the job."""
    if not 0 <= number < rank_size():
        refuse(f'{number} is the number of none of the {rank_size()} ranks')


def check_size(size: int) -> None:
    """Refuses a number of ranks that is not the job's."""
    if size != rank_size():
        refuse(f'a collective is built for rank_size={size}, and RANK_SIZE={rank_size()}')


def build(op: str, tensors: Sequence[tf.Tensor], stand_in: Optional[Callable] = None,
          group: str = WORLD, gradient: str = _NO_GRADIENT, **settings) -> List[tf.Tensor]:
    """Adds a collective to the default graph.

    Args:
        op: the device's name for it.
        tensors: what this rank gives.
        stand_in: tensor that is given -> one of the shape of what comes back; the tensor itself
            where it has that shape.
        group: only the group of all ranks is imitated.
        gradient: the registered name of the op's; without one it cannot be differentiated.
        **settings: what the ranks must agree on besides.

    Returns:
        What comes back.

    Raises:
        CollectiveError: there is only one rank.
        AssertionError: the collective stands where not all ranks are sure to run it, or gets a
            tensor without a full shape.
    """
    if group != WORLD:
        not_established(f'a group of its own ({group})')
    if rank_size() <= 1:
        raise CollectiveError(f'{op}: with RANK_SIZE=1 or unset there is nobody to talk to')
    graph = tf.get_default_graph()
    if graph._get_control_flow_context() is not None:
        refuse(f'{op} stands in a tf.cond or tf.while_loop, which other ranks may not enter')
    for tensor in tensors:
        if not tensor.shape.is_fully_defined():
            refuse(f'{op} gets {tensor.name} of the shape {tensor.shape}, which the device cannot '
                   'compile')
    with graph.gradient_override_map({'IdentityN': gradient}):
        given = tf.identity_n(list(tensors), name=op)
    with tf.name_scope(given[0].op.name + '/'):
        defaults = [stand_in(tensor) if stand_in else tensor for tensor in given]
        received = [tf.placeholder_with_default(tensor, tensor.shape) for tensor in defaults]
    _of_graph.setdefault(graph, []).append(
        Collective(op, tuple(sorted(settings.items())), given, received))
    return received
