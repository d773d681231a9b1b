"""Managers of the loss scale; NPU.md, section 6."""

import tensorflow as tf
from fake_npu.release import since

_LARGEST = 3.4e38


class FixedLossScaleManager:
    """One scale for the whole run."""

    def __init__(self, loss_scale: float, *overflow, **named_overflow):
        """Takes ``enable_overflow_check=True`` as well from r1.5.0 on."""
        self.checks_overflow = _overflow_argument(*overflow, **named_overflow)
        if loss_scale < 1:
            raise ValueError(f'loss_scale must be at least 1, not {loss_scale}')
        self._loss_scale = tf.convert_to_tensor(loss_scale, tf.float32)

    def get_loss_scale(self) -> tf.Tensor:
        """The scale, float32 scalar."""
        return self._loss_scale

    def update_loss_scale(self, finite_grads: tf.Tensor) -> tf.Operation:
        """Does nothing."""
        return tf.no_op()


def _overflow_argument(*args, **kwargs) -> bool:
    if since('r1.5.0'):
        return _new_overflow_argument(*args, **kwargs)
    return _old_overflow_argument(*args, **kwargs)


def _old_overflow_argument() -> bool:
    return True


def _new_overflow_argument(enable_overflow_check: bool = True) -> bool:
    return enable_overflow_check


class ExponentialUpdateLossScaleManager:
    """Raises the scale after clean steps in a row, lowers it after overflows."""

    checks_overflow = True

    def __init__(self, init_loss_scale: float,
                 incr_every_n_steps: int, decr_every_n_nan_or_inf: int = 2,
                 incr_ratio: float = 2, decr_ratio: float = 0.8):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale = tf.Variable(float(init_loss_scale), False, dtype=tf.float32,
                                       name='loss_scale')
        self._good_steps = tf.Variable(0, False, dtype=tf.int32, name='good_steps')
        self._bad_steps = tf.Variable(0, False, dtype=tf.int32, name='bad_steps')

    def get_loss_scale(self) -> tf.Variable:
        """The scale, float32 scalar."""
        return self._loss_scale

    def update_loss_scale(self, finite_grads: tf.Tensor) -> tf.Operation:
        """Counts the step and adjusts the scale.

        Args:
            finite_grads: bool scalar, False when the step overflowed.

        Returns:
            The op of the update.
        """
        with tf.control_dependencies([finite_grads]):
            scale = self._loss_scale.read_value()
            good = tf.where(finite_grads, self._good_steps.read_value() + 1, 0)
            bad = self._bad_steps.read_value() + tf.cast(tf.logical_not(finite_grads), tf.int32)
        grow = tf.logical_and(finite_grads, good >= self._incr_every_n_steps)
        shrink = tf.logical_and(tf.logical_not(finite_grads),
                                bad >= self._decr_every_n_nan_or_inf)
        grown = tf.where(scale >= _LARGEST / self._incr_ratio, scale, scale * self._incr_ratio)
        shrunk = tf.maximum(1.0, scale * self._decr_ratio)
        kept = 1 - tf.cast(tf.logical_or(grow, shrink), tf.int32)
        values = [tf.where(grow, grown, tf.where(shrink, shrunk, scale)), good * kept, bad * kept]
        # All new values before the first assignment: a read of a variable may be its own memory.
        with tf.control_dependencies(values):
            return tf.group(*[tf.assign(variable, value) for variable, value in zip(
                (self._loss_scale, self._good_steps, self._bad_steps), values)])
