"""Gradients and updates of several towers, and updates that a device may skip.

A step applies the mean of all towers' gradients, and the mean of their batch norm updates.
"""

from typing import List, Sequence, Tuple

import tensorflow as tf

GradientsAndVariables = List[Tuple[tf.Tensor, tf.Variable]]


def average_gradients(towers: Sequence[GradientsAndVariables]) -> GradientsAndVariables:
    """Averages the gradient of each variable over the towers.

    Args:
        towers: the results of ``Optimizer.compute_gradients``, with the same variable order.

    Returns:
        One list of the same form. A gradient of None counts as zero; variables for which all
        towers have None are omitted.
    """
    averaged = []
    for pairs in zip(*towers):
        known = [gradient for gradient, _ in pairs if gradient is not None]
        if known:
            zeros = [tf.zeros_like(known[0])] * (len(pairs) - len(known))
            averaged.append((mean(known + zeros), pairs[0][1]))
    return averaged


def mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Averages tensors of one shape; a single one is returned as it is."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(list(tensors)) / len(tensors)


def combine_update_ops(towers: Sequence[Sequence[tf.Operation]]) -> List[tf.Operation]:
    """Combines the towers' batch norm updates into one update of each moving statistic.

    The op of a tower is ``statistic -= (statistic - batch value) * (1 - decay)``. Running the ops
    of all towers would apply the decay once per tower, and running those of one tower would ignore
    the batches of the others. Subtracting the mean of their differences moves a statistic once,
    towards the mean of the batches.

    Args:
        towers: update ops of each tower, in graph order.

    Returns:
        The ops to run at each step.

    Raises:
        ValueError: the towers differ in the number of ops, or an op is not an AssignSub on the same
            variable in every tower.
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
    """Applies gradients and, unless that was skipped, updates statistics and moving average.

    Args:
        optimizer: may skip ``apply_gradients``, leaving ``global_step`` unchanged.
        gradients: to apply.
        global_step: float32 scalar, at most 2**24 (above, adding 1 changes nothing), or int64.
        updates: ``AssignSub`` ops of the moving statistics. They are rebuilt in a branch that can
            be skipped; these ops themselves must not run.
        decay: of the moving average of the trainable variables.

    Returns:
        The moving average, and the op of the whole step.
    """
    # The sum is computed before the update: a plain read of the variable shares its memory, and
    # could return the new value.
    step_if_applied = tf.add(global_step, tf.ones([], global_step.dtype.base_dtype))
    with tf.control_dependencies([step_if_applied]):
        applied = optimizer.apply_gradients(gradients, global_step=global_step)
    with tf.control_dependencies([applied]):
        step_after = global_step.read_value()
        average = tf.train.ExponentialMovingAverage(decay, num_updates=step_after)
        was_applied = tf.equal(step_after, step_if_applied)

    def update() -> tf.Operation:
        rebuilt = [tf.assign_sub(op.inputs[0], op.inputs[1]) for op in map(_operation, updates)]
        return tf.group(average.apply(tf.trainable_variables()), *rebuilt)

    return average, tf.cond(was_applied, update, tf.no_op).op


def _operation(update) -> tf.Operation:
    op = update.op if isinstance(update, tf.Tensor) else update
    if op.type != 'AssignSub':
        raise ValueError(f'{op.name} is not an AssignSub, so it cannot be skipped')
    return op
