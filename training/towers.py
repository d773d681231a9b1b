"""One step of several towers as one update: split the batch, average what the towers computed.

The loss's dice sums run over a tower's own batch, so the mean of the towers' gradients is not the
gradient of the joint batch; it is what the published multi-GPU runs applied.
"""

from typing import List, Sequence, Tuple

import tensorflow as tf

GradientsAndVariables = List[Tuple[tf.Tensor, tf.Variable]]


def average_gradients(towers: Sequence[GradientsAndVariables]) -> GradientsAndVariables:
    """The mean over the towers of each variable's gradient.

    Args:
        towers: for each tower what ``Optimizer.compute_gradients`` returned, same variable order.

    Returns:
        One list of the same form. None, what a loss that does not depend on the variable has for a
        gradient, counts as zero; a variable that no tower has a gradient for is left out.
    """
    averaged = []
    for pairs in zip(*towers):
        known = [gradient for gradient, _ in pairs if gradient is not None]
        if known:
            zeros = [tf.zeros_like(known[0])] * (len(pairs) - len(known))
            averaged.append((mean(known + zeros), pairs[0][1]))
    return averaged


def mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The mean of tensors of one shape; a single one is passed through."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(list(tensors)) / len(tensors)


def combine_update_ops(towers: Sequence[Sequence[tf.Operation]]) -> List[tf.Operation]:
    """Batch normalisation's updates of several towers as one update of each moving statistic.

    Each tower's op is ``statistic -= (statistic - batch value) * (1 - decay)``. Running all of them
    would decay a statistic once a tower, running the last tower's alone would ignore the other
    towers' batches; the mean of what they subtract moves it once, towards the mean of the batches.

    Args:
        towers: for each tower the update ops it added, in the order of the graph.

    Returns:
        The ops to run with each step.

    Raises:
        ValueError: the towers' numbers of ops differ, or an op is no AssignSub on the same variable
            in every tower.
    """
    if len(towers) == 1:
        return list(towers[0])
    if len({len(ops) for ops in towers}) != 1:
        raise ValueError('the towers have %s update ops' % [len(ops) for ops in towers])
    return [_combine(ops) for ops in zip(*towers)]


def _combine(ops: Sequence[tf.Operation]) -> tf.Operation:
    ops = [op.op if isinstance(op, tf.Tensor) else op for op in ops]
    variables = {op.inputs[0] for op in ops}
    if len(variables) != 1 or any(op.type != 'AssignSub' for op in ops):
        raise ValueError('cannot combine the update ops %s' % [op.name for op in ops])
    return tf.assign_sub(variables.pop(), mean([op.inputs[1] for op in ops])).op
