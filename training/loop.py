"""The training loop, the same for every device: readers, graph, steps, hooks and a clean stop."""

import time
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from training.checkpoints import Checkpoint, build_saver, initialise
from training.config import TrainConfig, run_flags
from training.devices.device import Device
from training.graph import Fetches, Inputs, TrainGraph, build_train_graph
from training.hooks import (
    Batch,
    CheckpointHook,
    DivergenceError,
    DivergenceGuard,
    Hook,
    LeaveTogetherHook,
    LogHook,
    MeasureStatisticsHook,
    ShareStatisticsHook,
    StepResult,
    SummaryHook,
    tell,
)
from training.ranks import PeerError, check_same_step, named_peer_failures, rank_log
from training.run_folder import (
    CheckpointWriter,
    choose_seed,
    find_start,
    folder_lock,
    remove_earlier_run,
)
from training.signals import GracefulStop, StopTraining
from training.summaries import SummaryWriter
from utils.data_provider.data_provider import Batches, get_batch
from utils.errors import PSENetError
from utils.utils_tool import logger


class RunContext(NamedTuple):
    """A run with its readers started, before its graph is built."""

    config: TrainConfig
    device: Device
    start: Optional[Checkpoint]    # to continue from
    first_step: int
    batches: Batches
    stop: GracefulStop
    hooks: Sequence[Hook]          # further hooks of rank 0


# Builds the graph, initializes the variables, and trains to the end.
TakeSteps = Callable[[RunContext], None]


def train(config: TrainConfig, device: Device, hooks: Sequence[Hook] = (),
          take_steps: Optional[TakeSteps] = None) -> int:
    """Trains until ``max_steps``, or until a signal or an error ends the run.

    Args:
        config: the run.
        device: to train on.
        hooks: further hooks of rank 0.
        take_steps: the training itself; ``in_session`` if None.

    Returns:
        The exit code of the process: 0, or 128 + the number of the signal that stopped it.

    Raises:
        PSENetError: the run cannot start or continue; the steps so far have been saved.
    """
    with rank_log(config.checkpoint_path, device.rank), \
            folder_lock(config.checkpoint_path, device.rank):
        start = find_start(config)
        first_step = start.global_step() if start else 0
        config = config._replace(seed=choose_seed(config, start))
        if first_step >= config.max_steps:
            logger.info('nothing to do: %s is at step %d and --max_steps=%d; raise --max_steps to '
                        'continue', start.prefix, first_step, config.max_steps)
            return 0
        try:
            # Readers first: some devices forbid new processes once they are initialized.
            with GracefulStop(alone=device.world_size == 1) as stop, \
                    _start_readers(config, device, first_step) as batches, \
                    named_peer_failures(device):
                logger.info('training data: %s', batches.counts)
                device.prepare()
                (take_steps or in_session)(
                    RunContext(config, device, start, first_step, batches, stop, hooks))
        except StopTraining as stopped:
            logger.warning('stopped by %s', stopped)
            return stopped.exit_code
        return 0


def in_session(run: RunContext) -> None:
    """Trains in a session that is fed with each batch."""
    tf.set_random_seed(run.batches.seed)
    graph = build_train_graph(run.config, run.device)
    with tf.Session(config=run.device.session_config()) as session:
        initialise(session, run.config, run.start, graph.average)
        if graph.share_all is not None:
            session.run(graph.share_all)
            check_same_step(session, run.first_step)
        with open_hooks(run, graph, build_saver()) as hooks:
            _Run(session, graph, run.batches, run.stop, hooks).run(run.first_step,
                                                                   run.config.max_steps)


def _start_readers(config: TrainConfig, device: Device, first_step: int) -> Batches:
    return get_batch(
        training_data_path=config.training_data_path, num_workers=config.num_readers,
        input_size=config.input_size,
        batch_size=config.batch_size_per_gpu * device.num_towers, seed=config.seed,
        first_batch=first_step, min_crop_side_ratio=config.min_crop_side_ratio,
        rank=device.rank, world_size=device.world_size, cache_images_mb=config.cache_images_mb,
        max_image_pixels=config.max_image_pixels,
        apply_exif_orientation=config.apply_exif_orientation, dataset=config.dataset,
        label_path=config.label_path, augmentation=config.augmentation,
        soft_labels=config.soft_labels)


@contextmanager
def open_hooks(run: RunContext, graph: TrainGraph, saver: tf.train.Saver) -> Iterator[List[Hook]]:
    """Creates the hooks of this process; only those of rank 0 write into the checkpoint directory.

    Args:
        run: the run; its variables are initialized.
        graph: of its steps.
        saver: of ``build_saver``.

    Yields:
        The hooks, in order.

    Raises:
        PSENetError: an earlier run cannot be removed.
    """
    config, device = run.config, run.device
    batch_size = config.batch_size_per_gpu * device.num_towers * device.world_size
    hooks = [DivergenceGuard(device.limits), LogHook(batch_size, config.max_steps)]
    if graph.share_statistics is not None:
        hooks.append(ShareStatisticsHook(graph.share_statistics, config.save_checkpoint_steps))
    if config.measured_batches:
        hooks.append(MeasureStatisticsHook(graph, _feeds_of_images(run, graph), config,
                                           lambda: run.stop.wanted))
    last = [] if graph.share_statistics is None else [LeaveTogetherHook(graph.share_statistics)]
    if device.rank:
        yield hooks + last
        return
    # An earlier run is removed only now, when nothing else can fail.
    if config.overwrite:
        remove_earlier_run(config.checkpoint_path)
    writer = CheckpointWriter(config.checkpoint_path, config.keep_checkpoints, saver,
                              run.batches.seed, run_flags(config))
    with SummaryWriter(config.checkpoint_path, run.first_step) as summaries:
        yield [*hooks, SummaryHook(summaries, config.save_summary_steps),
               CheckpointHook(writer, config.save_checkpoint_steps, config.max_steps), *run.hooks,
               *last]


def _feeds_of_images(run: RunContext, graph: TrainGraph) -> Iterator[Dict[tf.Tensor, np.ndarray]]:
    """Yields the feed dicts of further batches, empty if the graph reads its data itself."""
    images = graph.inputs.images
    while True:
        yield {images: next(run.batches)[0]} if images.op.type == 'Placeholder' else {}


@contextmanager
def named_lack_of_memory(inputs: Inputs) -> Iterator[None]:
    """Turns TensorFlow's error about too little device memory into a clear message.

    Raises:
        PSENetError: the device has too little memory for a step.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise PSENetError('the device has too little memory for a batch of images of shape '
                          f'{tuple(inputs.images.shape.as_list())}: lower --batch_size_per_gpu or '
                          '--input_size') from None


class _Run:
    """The steps of one process, from the initialized variables to the last save."""

    def __init__(self, session: tf.Session, graph: TrainGraph, batches: Batches,
                 stop: GracefulStop, hooks: List[Hook]):
        self._session = session
        self._graph = graph
        self._batches = batches
        self._stop = stop
        self._hooks = hooks
        self._step = 0
        self._batch: Optional[Batch] = None
        self._failure: Optional[Exception] = None    # of the readers, to be announced to the others
        self._agreed = False                         # all processes stop after the same step

    def run(self, first_step: int, max_steps: int) -> None:
        """Trains to the end, and saves on any failure except divergence or a lost process."""
        self._step = first_step
        try:
            while self._step < max_steps:
                self._take_step()
        except DivergenceError:
            raise
        except (StopTraining, PSENetError, RuntimeError) as ending:
            if self._step > first_step and self._may_save_after(ending):
                self._end()
            raise
        self._end()

    def _may_save_after(self, ending: BaseException) -> bool:
        at_once = isinstance(ending, StopTraining) and ending.at_once
        # Saving runs collectives, in which all processes must take part.
        return (self._stop.alone or self._agreed) and not at_once

    def _take_step(self) -> None:
        started = time.perf_counter()
        batch = self._next_batch()
        waited = time.perf_counter() - started
        with self._stop.deferred():
            values = self._compute(batch)
            before, self._step = self._step, int(values.global_step)
            taken = self._step - before
            tell(self._hooks, self._session,
                 StepResult(self._step, values, batch, waited, taken, skipped=1 - taken))
        self._stop_if_voted(values.stop_votes)

    def _next_batch(self) -> Batch:
        try:
            self._batch = Batch(*next(self._batches))
        except (PSENetError, RuntimeError) as error:
            if self._stop.alone or self._batch is None:
                raise
            # The other processes wait for this one: it takes the step with its previous batch, so
            # that all of them can save and stop afterwards.
            self._failure = error
        return self._batch

    def _stop_if_voted(self, stop_votes: np.ndarray) -> None:
        """Ends the run if any process was asked to stop or cannot continue."""
        asked, failed = stop_votes > 0
        self._agreed = asked or failed
        if self._failure is not None:
            raise self._failure
        if failed:
            raise PeerError('another process failed, and its log gives the reason; the steps so '
                            'far have been saved: continue with --restore')
        if asked:
            self._stop.raise_agreed()

    def _compute(self, batch: Batch) -> Fetches:
        inputs = self._graph.inputs
        with named_lack_of_memory(inputs):
            return self._session.run(self._graph.fetches, {
                inputs.images: batch.images, inputs.seg_maps: batch.seg_maps,
                inputs.training_masks: batch.training_masks,
                self._graph.stop_votes: [self._stop.wanted, self._failure is not None]})

    def _end(self) -> None:
        with self._stop.deferred():
            for hook in self._hooks:
                hook.end(self._session, self._step)
