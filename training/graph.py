"""The training graph: placeholders, towers, Adam, batch-norm updates and the moving average.

Every shape is static, and one fetch list serves every step: the scalars and the small image that
the hooks need are fetched with the update, so that no step is computed twice for a summary.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf

from nets.losses import LossTerms, hard_negative_loss_terms, loss_terms
from nets.model import model
from training.checkpoints import moving_statistics
from training.config import TrainConfig
from training.devices.device import Device
from training.optimization import build_learning_rate, build_optimizer, clip_gradients
from training.towers import (
    GradientsAndVariables,
    apply_then,
    average_gradients,
    combine_update_ops,
    mean,
)
from utils.data_provider.targets import CELL_PIXELS
from utils.utils_tool import cfg


class Inputs(NamedTuple):
    """The batch of one step, uint8, H = W = input_size, static shapes."""

    images: tf.Tensor          # [N, H, W, 3], RGB, 0..255
    seg_maps: tf.Tensor        # [N, H/4, W/4, 6], smallest kernel first; 0 or 1, soft labels 0..16
    training_masks: tf.Tensor  # [N, H/4, W/4, 1], 0 where the loss ignores the pixel


class Scalars(NamedTuple):
    """Results of a step, float32 scalars; the losses are means over towers and processes."""

    learning_rate: tf.Tensor
    model_loss: tf.Tensor
    total_loss: tf.Tensor
    text_loss: tf.Tensor     # Lc of the paper
    kernel_loss: tf.Tensor   # Ls of the paper
    gradient_norm: tf.Tensor


class Fetches(NamedTuple):
    """The one fetch list of training."""

    update: tf.Operation
    global_step: tf.Tensor    # scalar of the variable's dtype, after the update
    scalars: Scalars
    score_maps: tf.Tensor     # [H/4, W/4, 6], the batch's first sample, for the summaries
    stop_votes: tf.Tensor     # float32 [2], see TrainGraph.stop_votes
    device_scalars: Dict[str, tf.Tensor] = {}  # noqa: RUF012 - of Device.step_scalars()


class TrainGraph(NamedTuple):
    """The parts of the graph that the loop uses."""

    inputs: Inputs
    # float32 [2], fed at each step: 1 if this process was asked to stop, and 1 if it cannot
    # continue. When fetched, it is the mean over the processes, so that all of them stop after the
    # same step.
    stop_votes: tf.Tensor
    fetches: Fetches
    average: tf.train.ExponentialMovingAverage
    # Broadcast the values of rank 0; None if there is one process.
    share_all: Optional[tf.Operation]
    share_statistics: Optional[tf.Operation]    # the moving statistics of batch norm alone
    # Each moving statistic with the amount that its update subtracts: (1 - decay) times the
    # difference from the batch's value.
    statistics: Sequence[Tuple[tf.Variable, tf.Tensor]] = ()


_LOSSES: Dict[str, Callable[..., LossTerms]] = {'reference': loss_terms,
                                                'hard_negatives': hard_negative_loss_terms}


class _Tower(NamedTuple):
    total_loss: tf.Tensor
    losses: tf.Tensor         # [4]: model, total, text, kernels
    update_ops: List[tf.Operation]
    score_maps: tf.Tensor


def build_train_graph(config: TrainConfig, device: Device, inputs: Optional[Inputs] = None
                      ) -> TrainGraph:
    """Builds the graph of one training step in the default graph.

    Args:
        config: sizes, rates and decays.
        device: places the towers and wraps the optimizer.
        inputs: a batch of ``batch_size_per_gpu x num_towers`` from tf.data; placeholders if None.

    Returns:
        The inputs and the fetches. With inputs from tf.data nothing has to be fed.
    """
    fed = inputs is None
    if fed:
        inputs = Inputs(*(tf.placeholder(spec.dtype, spec.shape, f'input_{name}')
                          for name, spec in input_specs(config, device)._asdict().items()))
    global_step = _get_or_create_global_step()
    learning_rate = build_learning_rate(config, device, global_step)
    towers = _build_towers(config, device, inputs)
    optimizer = device.wrap_optimizer(build_optimizer(config, learning_rate))
    gradients = average_gradients(_tower_gradients(device, towers, optimizer))
    applied_gradients = clip_gradients(gradients, config.clip_norm)
    updates = combine_update_ops([tower.update_ops for tower in towers])
    if device.may_skip_steps:
        average, update = apply_then(optimizer, applied_gradients, global_step, updates,
                                     config.moving_average_decay)
    else:
        applied = optimizer.apply_gradients(applied_gradients, global_step=global_step)
        average, update = _average_after([applied] + updates, global_step,
                                         config.moving_average_decay)
    with tf.control_dependencies([update]):
        step_after = global_step.read_value()
        device_scalars = device.step_scalars()
    stop_votes = tf.placeholder(tf.float32, [2], 'stop_votes') if fed else tf.zeros([2])
    losses, agreed = tf.split(device.mean_over_ranks(
        tf.concat([mean([tower.losses for tower in towers]), stop_votes], axis=0)), [4, 2])
    scalars = Scalars(learning_rate, *tf.unstack(losses),
                      gradient_norm=tf.global_norm([gradient for gradient, _ in gradients]))
    fetches = Fetches(update, step_after, scalars, towers[0].score_maps[0], agreed, device_scalars)
    return TrainGraph(inputs, stop_votes, fetches, average,
                      device.broadcast_op(tf.global_variables()),
                      device.broadcast_op(moving_statistics()),
                      _statistics(towers[0].update_ops))


def _statistics(updates: List[tf.Operation]) -> List[Tuple[tf.Variable, tf.Tensor]]:
    variables = {variable.op.name: variable for variable in moving_statistics()}
    ops = [update.op if isinstance(update, tf.Tensor) else update for update in updates]
    return [(variables[op.inputs[0].op.name], op.inputs[1]) for op in ops]


def input_specs(config: TrainConfig, device: Device) -> Inputs:
    """The tf.TensorSpec of each input of the graph."""
    batch_size, size = config.batch_size_per_gpu * device.num_towers, config.input_size
    small = size // cfg.STRIDE
    return Inputs(tf.TensorSpec([batch_size, size, size, 3], tf.uint8),
                  tf.TensorSpec([batch_size, small, small, cfg.NUM_KERNELS], tf.uint8),
                  tf.TensorSpec([batch_size, small, small, 1], tf.uint8))


def _get_or_create_global_step() -> tf.Variable:
    # An Estimator creates its own, int64. Otherwise it is float32, as in published checkpoints.
    existing = tf.train.get_global_step()
    if existing is not None:
        return existing
    return tf.get_variable('global_step', [], tf.float32, trainable=False,
                           initializer=tf.zeros_initializer(),
                           collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.GLOBAL_STEP])


def _build_towers(config: TrainConfig, device: Device, inputs: Inputs) -> List[_Tower]:
    towers = []
    shares = [Inputs(*share) for share in
              zip(*(tf.split(tensor, device.num_towers) for tensor in inputs))]
    for index, share in enumerate(shares):
        with device.tower_scope(index), tf.name_scope(f'tower_{index}'), \
                tf.variable_scope(tf.get_variable_scope(), reuse=index > 0):
            towers.append(_build_tower(config, share))
    return towers


def _build_tower(config: TrainConfig, share: Inputs) -> _Tower:
    seen_updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    images, seg_maps, training_masks = map(tf.to_float, share)
    if config.soft_labels:
        seg_maps /= CELL_PIXELS
    score_maps = model(images, is_training=True, batch_norm_decay=config.batch_norm_decay,
                       backbone=config.backbone)
    terms = _LOSSES[config.loss](seg_maps, score_maps, training_masks)
    # Regularization losses belong to the variables: the first tower creates them, and every tower
    # adds them to its loss. AdamW decays the weights itself.
    regularizers = [] if config.optimizer == 'adamw' else tf.losses.get_regularization_losses()
    total_loss = tf.add_n([terms.total, *regularizers])
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)[len(seen_updates):]
    return _Tower(total_loss, tf.stack([terms.total, total_loss, terms.text, terms.kernels]),
                  updates, score_maps)


def _tower_gradients(device: Device, towers: List[_Tower], optimizer: tf.train.Optimizer
                     ) -> List[GradientsAndVariables]:
    gradients = []
    for index, tower in enumerate(towers):
        # The trailing slash re-enters the scope in which the tower was built.
        with device.tower_scope(index), tf.name_scope(f'tower_{index}/'):
            gradients.append(optimizer.compute_gradients(tower.total_loss))
    return gradients


def _average_after(ops: List[tf.Operation], global_step: tf.Variable, decay: float
                   ) -> Tuple[tf.train.ExponentialMovingAverage, tf.Operation]:
    """Updates the moving average of the trainable variables after ``ops``."""
    with tf.control_dependencies(ops):
        average = tf.train.ExponentialMovingAverage(decay, num_updates=global_step.read_value())
        return average, average.apply(tf.trainable_variables())
