"""Optimization: learning rate schedules, Adam with decoupled weight decay, gradient clipping."""

from typing import List, Tuple

import numpy as np
import tensorflow as tf

from training.checkpoints import BACKBONE_PREFIX
from training.config import TrainConfig
from training.devices.device import Device

LEARNING_RATE_DECAY_STEPS = 10000
LEARNING_RATE_DECAY_RATE = 0.94
# Of AdamW, for the weights of convolutions.
WEIGHT_DECAY = 0.01


def build_learning_rate(config: TrainConfig, device: Device, global_step: tf.Variable
                        ) -> tf.Tensor:
    """Builds the learning rate of a step, a float32 scalar.

    ``exponential`` multiplies it by 0.94 every 10,000 steps; ``cosine`` decreases it to 0 at
    ``max_steps``. Both start with a linear warm-up of ``warmup_steps``.
    """
    rate = config.learning_rate * (device.world_size if config.scale_learning_rate else 1)
    if config.schedule == 'cosine':
        done = tf.minimum(tf.to_float(global_step) / config.max_steps, 1.)
        rate *= 0.5 * (1 + tf.cos(np.float32(np.pi) * done))
    else:
        rate = tf.train.exponential_decay(rate, global_step, LEARNING_RATE_DECAY_STEPS,
                                          LEARNING_RATE_DECAY_RATE, staircase=True)
    if config.warmup_steps:
        rate *= tf.minimum((tf.to_float(global_step) + 1) / config.warmup_steps, 1.)
    return rate


def build_optimizer(config: TrainConfig, learning_rate: tf.Tensor) -> tf.train.Optimizer:
    """Builds Adam or AdamW, with the configured learning rate of the backbone."""
    decay = WEIGHT_DECAY if config.optimizer == 'adamw' else 0.0
    if not decay and config.backbone_rate == 1:
        return tf.train.AdamOptimizer(learning_rate)
    return AdamW(learning_rate, decay, config.backbone_rate)


class AdamW(tf.train.AdamOptimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) and two learning rates.

    Its slots have the names of Adam's, so that either can continue the other's checkpoints.
    """

    def __init__(self, learning_rate: tf.Tensor, weight_decay: float, backbone_rate: float):
        """Stores the rates.

        Args:
            learning_rate: float32 scalar.
            weight_decay: fraction by which a step shrinks the weights of convolutions, times the
                learning rate.
            backbone_rate: factor of the learning rate for the backbone's variables.
        """
        super().__init__(learning_rate, name='Adam')
        self._weight_decay = weight_decay
        self._backbone_rate = backbone_rate

    def _apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        # Adam's own method reads the rate from this attribute.
        whole = self._lr_t
        if var.op.name.startswith(BACKBONE_PREFIX):
            self._lr_t = whole * self._backbone_rate
        try:
            decayed = []
            if self._weight_decay and var.op.name.endswith('/weights'):
                decayed = [tf.assign_sub(var, self._lr_t * self._weight_decay * var)]
            with tf.control_dependencies(decayed):
                return super()._apply_dense(grad, var)
        finally:
            self._lr_t = whole


def clip_gradients(gradients: List[Tuple[tf.Tensor, tf.Variable]], norm: float
                   ) -> List[Tuple[tf.Tensor, tf.Variable]]:
    """Scales gradients down to at most a global norm; 0 leaves them unchanged."""
    if not norm:
        return gradients
    clipped, _ = tf.clip_by_global_norm([gradient for gradient, _ in gradients], norm)
    return list(zip(clipped, (variable for _, variable in gradients)))
