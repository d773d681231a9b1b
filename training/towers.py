"""Gradients and updates of several towers, and updates that a device may leave out.

One step applies the mean of all towers' gradients, and the mean of their batch-norm updates.
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
        raise ValueError(f'the towers have {[len(ops) for ops in towers]} update ops')
    return [_combine(ops) for ops in zip(*towers)]


def _combine(ops: Sequence[tf.Operation]) -> tf.Operation:
    ops = [op.op if isinstance(op, tf.Tensor) else op for op in ops]
    variables = {op.inputs[0] for op in ops}
    if len(variables) != 1 or any(op.type != 'AssignSub' for op in ops):
        raise ValueError(f'cannot combine the update ops {[op.name for op in ops]}')
    return tf.assign_sub(variables.pop(), mean([op.inputs[1] for op in ops])).op


def apply_then(optimizer: tf.train.Optimizer, gradients: GradientsAndVariables,
               global_step: tf.Variable, updates: List[tf.Operation], decay: float
               ) -> Tuple[tf.train.ExponentialMovingAverage, tf.Operation]:
    """Applies gradients; where that took place, updates the statistics and the moving average.

    Args:
        optimizer: its ``apply_gradients`` may do nothing, and then leaves ``global_step`` as it is.
        gradients: what to apply.
        global_step: float32 scalar, at most 2**24 (beyond, adding 1 changes nothing), or int64.
        updates: ``AssignSub`` ops of the moving statistics. They are built anew where they can be
            left out; these themselves must not run.
        decay: of the moving average of the trainable variables.

    Returns:
        The moving average, and the op that does all of the step.
    """
    # Added before the update and not after: a plain read of a variable shares its memory, and might
    # show the new value.
    step_if_applied = tf.add(global_step, tf.ones([], global_step.dtype.base_dtype))
    with tf.control_dependencies([step_if_applied]):
        applied = optimizer.apply_gradients(gradients, global_step=global_step)
    with tf.control_dependencies([applied]):
        step_after = global_step.read_value()
        average = tf.train.ExponentialMovingAverage(decay, num_updates=step_after)
        took_place = tf.equal(step_after, step_if_applied)

    def follow() -> tf.Operation:
        again = [tf.assign_sub(op.inputs[0], op.inputs[1]) for op in map(_operation, updates)]
        return tf.group(average.apply(tf.trainable_variables()), *again)

    return average, tf.cond(took_place, follow, tf.no_op).op


def _operation(update) -> tf.Operation:
    op = update.op if isinstance(update, tf.Tensor) else update
    if op.type != 'AssignSub':
        raise ValueError(f'{op.name} is no AssignSub, so it cannot be left out')
    return op
