"""The training loop, the same for every device: readers, graph, steps, hooks, an orderly end."""

import time
from contextlib import contextmanager
from typing import Iterator, List, Tuple

import tensorflow as tf

from training.config import TrainConfig
from training.device import Device
from training.graph import Fetches, TrainGraph, build_train_graph
from training.hooks import (
    Batch,
    CheckpointHook,
    DivergenceError,
    DivergenceGuard,
    Hook,
    LogHook,
    StepResult,
    SummaryHook,
)
from training.saver import CheckpointWriter, remove_earlier_run
from training.signals import GracefulStop, StopTraining
from training.start import find_start, initialise
from training.summaries import SummaryWriter
from utils.data_provider.data_provider import Batches, get_batch
from utils.errors import PSENetError
from utils.utils_tool import logger


def train(config: TrainConfig, device: Device) -> int:
    """Trains until ``max_steps``, or until a signal or an error ends the run.

    Args:
        config: the run.
        device: what it runs on.

    Returns:
        The process's exit code: 0, or 128 + the number of the signal that stopped it.

    Raises:
        PSENetError: the run cannot start or go on; what was trained has been saved.
    """
    start = find_start(config)
    first_step = start.global_step() if start else 0
    if first_step >= config.max_steps:
        logger.info('nothing to do: %s is at step %d and --max_steps=%d', start.prefix, first_step,
                    config.max_steps)
        return 0
    try:
        # Readers first: some devices forbid new processes once they are initialised.
        with GracefulStop() as stop, _start_readers(config, device, first_step) as batches:
            logger.info('training data: %s', batches.counts)
            device.prepare()
            tf.set_random_seed(batches.seed)
            graph = build_train_graph(config, device)
            broadcast = device.broadcast_op()
            with tf.Session(config=device.session_config()) as session:
                initialise(session, config, start, graph.average)
                if broadcast is not None:
                    session.run(broadcast)
                with _writers(config, first_step) as (saver, summaries):
                    hooks = _make_hooks(config, device, saver, summaries)
                    _Run(session, graph, batches, stop, hooks).run(first_step, config.max_steps)
    except StopTraining as stopped:
        logger.warning('stopped by %s', stopped)
        return stopped.exit_code
    return 0


def _start_readers(config: TrainConfig, device: Device, first_step: int) -> Batches:
    return get_batch(
        training_data_path=config.training_data_path, num_workers=config.num_readers,
        input_size=config.input_size,
        batch_size=config.batch_size_per_gpu * device.num_towers, seed=config.seed,
        first_batch=first_step, min_crop_side_ratio=config.min_crop_side_ratio)


@contextmanager
def _writers(config: TrainConfig, first_step: int
             ) -> Iterator[Tuple[CheckpointWriter, SummaryWriter]]:
    """Opens what writes into the checkpoint folder; only now is an earlier run removed."""
    if config.overwrite:
        remove_earlier_run(config.checkpoint_path)
    saver = CheckpointWriter(config.checkpoint_path, config.keep_checkpoints)
    summaries = SummaryWriter(config.checkpoint_path, first_step)
    try:
        yield saver, summaries
    finally:
        summaries.close()


def _make_hooks(config: TrainConfig, device: Device, saver: CheckpointWriter,
                summaries: SummaryWriter) -> List[Hook]:
    batch_size = config.batch_size_per_gpu * device.num_towers
    return [DivergenceGuard(device.limits), LogHook(batch_size, config.max_steps),
            SummaryHook(summaries, config.save_summary_steps),
            CheckpointHook(saver, config.save_checkpoint_steps)]


class _Run:
    """The steps of one process, between the first value of every variable and the last save."""

    def __init__(self, session: tf.Session, graph: TrainGraph, batches: Batches,
                 stop: GracefulStop, hooks: List[Hook]):
        self._session = session
        self._graph = graph
        self._batches = batches
        self._stop = stop
        self._hooks = hooks
        self._step = 0

    def run(self, first_step: int, max_steps: int) -> None:
        """Takes steps until the end, and saves however they ended, unless the weights are lost."""
        self._step = first_step
        try:
            while self._step < max_steps:
                self._take_step()
        except DivergenceError:
            raise
        except (StopTraining, PSENetError, RuntimeError) as ending:
            at_once = isinstance(ending, StopTraining) and ending.at_once
            if self._step > first_step and not at_once:
                self._end()
            raise
        self._end()

    def _take_step(self) -> None:
        started = time.perf_counter()
        batch = Batch(*next(self._batches))
        waited = time.perf_counter() - started
        with self._stop.deferred():
            values = self._compute(batch)
            before, self._step = self._step, int(values.global_step)
            result = StepResult(self._step, values, batch, waited)
            for hook in self._hooks:
                told = hook.after_skip if self._step == before else hook.after_step
                told(self._session, result)

    def _compute(self, batch: Batch) -> Fetches:
        inputs = self._graph.inputs
        try:
            return self._session.run(self._graph.fetches, {
                inputs.images: batch.images, inputs.seg_maps: batch.seg_maps,
                inputs.training_masks: batch.training_masks})
        except tf.errors.ResourceExhaustedError:
            raise PSENetError('the device has too little memory for a batch of images of shape %s: '
                              'lower --batch_size_per_gpu or --input_size'
                              % (batch.images.shape,)) from None

    def _end(self) -> None:
        with self._stop.deferred():
            for hook in self._hooks:
                hook.end(self._session, self._step)
