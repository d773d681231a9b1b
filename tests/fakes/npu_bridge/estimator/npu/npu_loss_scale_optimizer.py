"""The optimizer that scales the loss and skips steps that overflowed; NPU.md, section 6."""

import tensorflow as tf
from fake_npu.loss_scaling import apply_scaled, compute_scaled
from fake_npu.release import since

if since('r1.8.0'):
    from tensorflow.contrib.mixed_precision import LossScaleOptimizer

    class _Base(LossScaleOptimizer):
        """Attributes that the optimizer does not have are the inner one's."""

        def __getattr__(self, name):
            if name == '_opt':
                raise AttributeError(name)
            return getattr(self._opt, name)
else:
    class _Base(tf.train.Optimizer):
        """Has slots and variables of its own, which are none."""

        def __init__(self, opt, loss_scale_manager):
            super().__init__(name=f'NPULossScaleOptimizer{type(opt).__name__}',
                             use_locking=False)
            self._opt = opt
            self._loss_scale_manager = loss_scale_manager


class NPULossScaleOptimizer(_Base):
    """Computes gradients of the scaled loss; applies them when the float status is clean."""

    def __init__(self, opt: tf.train.Optimizer, loss_scale_manager, is_distributed: bool = False):
        super().__init__(opt, loss_scale_manager)
        self._is_distributed = is_distributed

    def compute_gradients(self, loss, *args, **kwargs):
        """Unscaled gradients of the scaled loss; arguments as in tf.train.Optimizer."""
        return compute_scaled(self._opt, self._loss_scale_manager, loss, *args, **kwargs)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """The step, which leaves variables and global_step alone after an overflow."""
        pairs = list(grads_and_vars)
        return apply_scaled(lambda: self._opt.apply_gradients(pairs, global_step, name),
                            self._loss_scale_manager, pairs, self._is_distributed)
