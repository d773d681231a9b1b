"""Updates that a device may leave out because their gradients overflowed: a step of all or nothing.

The float status that tells of an overflow does not tell where it happened. The forward pass may
have overflowed as well, and then the batch's mean and variance are worthless; a moving statistic
that takes one of them in keeps it for thousands of steps. So with the update everything else is
left out: batch normalisation's statistics and the moving average of the weights, whose decay counts
updates. Only the loss scale moves on.
"""

from typing import List, Tuple

import tensorflow as tf

from training.towers import GradientsAndVariables


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
        raise ValueError('%s is no AssignSub, so it cannot be left out' % op.name)
    return op
