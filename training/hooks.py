"""Hooks of the training loop: divergence guard, log line, summaries, checkpoints, statistics."""

import math
import time
from datetime import timedelta
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from training.checkpoints import load_values
from training.config import TrainConfig
from training.devices.device import UNLIMITED, Limits
from training.graph import Fetches, TrainGraph
from training.run_folder import CheckpointWriter
from training.summaries import SummaryWriter, map_image
from utils.errors import PSENetError
from utils.utils_tool import logger

LOG_STEPS = 10


class Batch(NamedTuple):
    """A batch of the readers; see ``get_batch``."""

    images: np.ndarray
    paths: List[str]
    seg_maps: np.ndarray
    training_masks: np.ndarray


class StepResult(NamedTuple):
    """A finished step, or one whose update the device skipped.

    If the device takes several steps per run, this is the last of them.
    """

    step: int                        # global_step after it
    values: Fetches                  # evaluated
    batch: Batch                     # of several steps: the first sample of the last one's batch
    data_seconds: Optional[float]    # spent waiting for the batch; None: not known
    taken: int = 1                   # updates applied since the previous result
    skipped: int = 0                 # updates skipped since then

    def reaches(self, every: int) -> bool:
        """Returns True if a step since the previous result is a multiple of ``every``."""
        return self.step // every > (self.step - self.taken) // every


class DivergenceError(PSENetError):
    """The loss or gradient is NaN, infinite or too large, or the gradients overflow repeatedly."""


class Hook:
    """Callbacks of the training loop, which calls all hooks in order."""

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Called after a step; an exception ends the run."""

    def after_skip(self, session: tf.Session, result: StepResult) -> None:
        """Called after a step that the device skipped; no variable has changed."""

    def end(self, session: tf.Session, step: int) -> None:
        """Called once, with the last step, if the run ends normally."""


def tell(hooks: Sequence[Hook], session: tf.Session, result: StepResult) -> None:
    """Calls the hooks after a step, in order."""
    for hook in hooks:
        look = hook.after_step if result.taken else hook.after_skip
        look(session, result)


class DivergenceGuard(Hook):
    """Ends a diverged run before it is saved.

    A run has diverged if the loss or the gradient norm is NaN or Inf; on devices that saturate
    instead of overflowing, also if the loss exceeds a bound or if too many consecutive updates
    overflow.
    """

    def __init__(self, limits: Limits = UNLIMITED):
        """Stores the device's limits."""
        self._limits = limits
        self._skipped = 0
        self._scales = []

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Raises DivergenceError naming the step and the batch's files."""
        if result.skipped:
            self._log_skip(result)
        self._skipped, self._scales = 0, []
        scalars = result.values.scalars
        bad = [f'{name} is {value}' for name, value in scalars._asdict().items()
               if not math.isfinite(value)]
        if not bad and scalars.total_loss > self._limits.max_loss:
            bad = [f'total_loss is {scalars.total_loss:g}, above '
                   f'--max_loss={self._limits.max_loss:g}']
        if bad:
            raise DivergenceError(
                f'training diverged at step {result.step} ({", ".join(bad)}) on the batch of '
                f'{", ".join(result.batch.paths)}; this step was not saved: lower --learning_rate '
                'and continue from the last checkpoint with --restore')

    def after_skip(self, _: tf.Session, result: StepResult) -> None:
        """Raises DivergenceError with the history of loss scales after too many skipped steps."""
        self._skipped += result.skipped
        self._log_skip(result)
        if self._skipped > self._limits.max_skipped_steps:
            raise DivergenceError(
                f'training is stuck after step {result.step}: the gradients of {self._skipped} '
                'consecutive steps overflowed, more than '
                f'--max_skipped_steps={self._limits.max_skipped_steps}, with the loss scale at '
                f'{" -> ".join(self._scales)}, the last on the batch of '
                f'{", ".join(result.batch.paths)}; continue from the last checkpoint with '
                '--restore and a lower --loss_scale or --learning_rate')

    def _log_skip(self, result: StepResult) -> None:
        scale = f"{result.values.device_scalars.get('loss_scale', float('nan')):g}"
        if self._scales[-1:] != [scale]:
            self._scales.append(scale)
        place = f'up to step {result.step}' if result.taken else f'step {result.step + 1}'
        updates = 'update' if result.skipped == 1 else f'{result.skipped} updates'
        logger.info('%s: the gradients overflowed, %s skipped; loss scale %s', place, updates,
                    scale)


class LogHook(Hook):
    """The log line every 10 steps, in the published format that scripts parse.

    The time of skipped steps counts towards the others of the same 10, and the line gives the
    number of skipped steps.
    """

    def __init__(self, batch_size: int, max_steps: int):
        """Starts the clock.

        Args:
            batch_size: examples per step.
            max_steps: the last step of the run, for the remaining time.
        """
        self._batch_size = batch_size
        self._max_steps = max_steps
        self._start_window()

    def _start_window(self) -> None:
        self._since = time.perf_counter()
        self._steps = 0
        self._skipped = 0
        self._data_seconds: Optional[float] = None

    def _count(self, result: StepResult) -> None:
        self._skipped += result.skipped
        if result.data_seconds is not None:
            self._data_seconds = (self._data_seconds or 0.0) + result.data_seconds

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Logs on every tenth step."""
        self._steps += result.taken
        self._count(result)
        if result.reaches(LOG_STEPS):
            logger.info('%s', self.line(result, time.perf_counter() - self._since))
            self._start_window()

    def after_skip(self, _: tf.Session, result: StepResult) -> None:
        """Counts the step."""
        self._count(result)

    def line(self, result: StepResult, seconds: float) -> str:
        """Returns the log line of the steps since the last one, which took ``seconds``."""
        per_step = seconds / self._steps
        left = timedelta(seconds=round(per_step * max(0, self._max_steps - result.step)))
        skipped = f', skipped {self._skipped}' if self._skipped else ''
        waited = ('' if self._data_seconds is None
                  else f', data wait {100 * self._data_seconds / seconds:.1f}%')
        return (f'Step {result.step:06}, model loss {result.values.scalars.model_loss:.4f}, total '
                f'loss {result.values.scalars.total_loss:.4f}, {per_step:.2f} seconds/step, '
                f'{self._batch_size / per_step:.2f} examples/second{waited}, ETA {left}{skipped}')


class SummaryHook(Hook):
    """TensorBoard scalars and images every ``every`` steps."""

    def __init__(self, writer: SummaryWriter, every: int):
        """Stores the writer and the interval in steps."""
        self._writer = writer
        self._every = every

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Writes if the interval has passed."""
        if not result.reaches(self._every):
            return
        batch = result.batch
        self._writer.add_scalars(result.step, {**result.values.scalars._asdict(),
                                               **result.values.device_scalars})
        self._writer.add_images(result.step, {
            'input_image': np.uint8(batch.images[0]),
            # Soft labels are 0..16.
            'seg_map_gt': map_image(batch.seg_maps[0] / max(1, batch.seg_maps[0].max())),
            'seg_map_pred': map_image(result.values.score_maps),
            'training_mask': map_image(batch.training_masks[0]),
        })


class CheckpointHook(Hook):
    """Saves every ``every`` steps and at the end.

    The last step is saved only at the end, after the statistics have been measured.
    """

    def __init__(self, writer: CheckpointWriter, every: int, max_steps: int):
        """Stores the writer, the interval in steps, and the last step."""
        self._writer = writer
        self._every = every
        self._max_steps = max_steps

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Saves if the interval has passed."""
        if result.reaches(self._every) and result.step < self._max_steps:
            self._writer.save(session, result.step)

    def end(self, session: tf.Session, step: int) -> None:
        """Saves the last step unless it is saved already."""
        if self._writer.last_saved_step != step:
            self._writer.save(session, step)


class ShareStatisticsHook(Hook):
    """Broadcasts the batch norm statistics of rank 0 whenever rank 0 is about to save.

    The processes share gradients, but each has its own statistics. After a save every process has
    the state of a restored one.
    """

    def __init__(self, share: tf.Operation, every: int):
        """Stores the broadcast, which every process runs, and the interval in steps."""
        self._share = share
        self._every = every

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Broadcasts if the interval has passed."""
        if result.reaches(self._every):
            session.run(self._share)

    def end(self, session: tf.Session, step: int) -> None:
        """Broadcasts before the last save."""
        session.run(self._share)


class MeasureStatisticsHook(Hook):
    """Measures the batch norm statistics of the averaged weights when a run is complete.

    The moving statistics are those of the raw weights, but detection uses the averaged ones. A
    signal ends the measurement; the batches measured until then count.
    """

    def __init__(self, graph: TrainGraph, feeds: Iterator[Dict[tf.Tensor, np.ndarray]],
                 config: TrainConfig, wanted: Callable[[], bool]):
        """Stores the arguments.

        Args:
            graph: of training.
            feeds: the feed dict of each batch; empty if the graph reads its data itself.
            config: of the run.
            wanted: returns True after a signal.
        """
        self._graph = graph
        self._feeds = feeds
        self._config = config
        self._is_ending = wanted

    def end(self, session: tf.Session, step: int) -> None:
        """Measures, if the run is complete."""
        if step < self._config.max_steps:
            return
        trainable = tf.trainable_variables()
        averages = [self._graph.average.average(variable) for variable in trainable]
        raw = session.run(trainable)
        load_values(session, trainable, session.run(averages))
        sums, count = self._measure(session)
        load_values(session, trainable, raw)
        if count:
            variables = [variable for variable, _ in self._graph.statistics]
            load_values(session, variables, [each / count for each in sums])
        logger.info("measured batch norm's statistics for the averaged weights over %d batches",
                    count)

    def _measure(self, session: tf.Session) -> Tuple[List[np.ndarray], int]:
        """Returns the sums of the batches' statistics, float64, and the number of batches."""
        moving = session.run([variable for variable, _ in self._graph.statistics])
        steps = [delta for _, delta in self._graph.statistics]
        share = 1 - self._config.batch_norm_decay
        sums, count = [np.zeros(value.shape) for value in moving], 0
        while count < self._config.measured_batches and not self._is_ending():
            found = session.run(steps, next(self._feeds))
            sums = [total + value - step / share
                    for total, value, step in zip(sums, moving, found)]
            count += 1
        return sums, count


class LeaveTogetherHook(Hook):
    """Makes every process wait until rank 0 has saved; the last hook of each process.

    A launcher regards a process that exits, for instance after a signal, as failed, and ends the
    rest of the job within seconds, possibly before rank 0 has written its checkpoint.
    """

    def __init__(self, share: tf.Operation):
        """Stores an op that is a barrier for all processes."""
        self._share = share

    def end(self, session: tf.Session, _: int) -> None:
        """Waits for all processes."""
        session.run(self._share)


class FinalFigures(Hook):
    """Writes four lines at the end of a run, in the format that the model zoos' scripts parse.

        Final Train Accuracy 0.2346             the last total loss; the zoos chose the name
        E2E Training Duration sec 3661.20       from the creation of this hook to the last save
        avg time per step 0.3012                seconds, over the applied steps after the first
        FPS 46.48                               examples of all processes per second, likewise

    The first step compiles the graph, which takes minutes on some devices, so the averages exclude
    it (with any further steps of the same device run). They include the time of skipped steps and
    of saving.
    """

    def __init__(self, batch_size: int, write: Callable[[str], None]):
        """Starts the clock.

        Args:
            batch_size: examples per step, of all processes together.
            write: called with each line, without a line break.
        """
        self._batch_size = batch_size
        self._write = write
        self._made = time.perf_counter()
        self._first_ended: Optional[float] = None
        self._last_ended = math.nan
        self._steps = 0
        self._loss = math.nan

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Notes the time and the loss."""
        self._last_ended = time.perf_counter()
        self._loss = float(result.values.scalars.total_loss)
        if self._first_ended is None:
            self._first_ended = self._last_ended
        else:
            self._steps += result.taken

    def end(self, _: tf.Session, step: int) -> None:
        """Writes the lines; the averages are nan if there was only one step."""
        per_step = (self._last_ended - self._first_ended) / self._steps if self._steps else math.nan
        self._write(f'Final Train Accuracy {self._loss:.4f}')
        self._write(f'E2E Training Duration sec {time.perf_counter() - self._made:.2f}')
        self._write(f'avg time per step {per_step:.4f}')
        self._write(f'FPS {self._batch_size / per_step:.2f}')
