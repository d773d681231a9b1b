"""Hooks after each step: divergence guard, log line, summaries, checkpoints, figures."""

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
from training.summaries import SummaryWriter, map_picture
from utils.errors import PSENetError
from utils.utils_tool import logger

LOG_STEPS = 10


class Batch(NamedTuple):
    """What the readers hand over; see ``get_batch``."""

    images: np.ndarray
    paths: List[str]
    seg_maps: np.ndarray
    training_masks: np.ndarray


class StepResult(NamedTuple):
    """A finished step, or one whose update the device skipped.

    Some devices take several steps by themselves; then it is the last of them that is seen here.
    """

    step: int                        # global_step after it
    values: Fetches                  # evaluated
    batch: Batch                     # where several steps were taken, its first sample alone
    data_seconds: Optional[float]    # how long it waited for its batch; None: not known
    taken: int = 1                   # updates since the result before
    skipped: int = 0                 # updates that were left out since then

    def reaches(self, every: int) -> bool:
        """Whether a step since the result before is a multiple of ``every``."""
        return self.step // every > (self.step - self.taken) // every


class DivergenceError(PSENetError):
    """The loss or its gradient is NaN or infinite, too large, or overflows step after step."""


class Hook:
    """Something to do after every step; the loop calls hooks in order."""

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Called after a step; an exception ends the run."""

    def after_skip(self, session: tf.Session, result: StepResult) -> None:
        """Called after a step that the device skipped; not even ``global_step`` has changed."""

    def end(self, session: tf.Session, step: int) -> None:
        """Called once when the run ends in good order, with the last step done."""


def tell(hooks: Sequence[Hook], session: tf.Session, result: StepResult) -> None:
    """Calls the hooks after a step, in order."""
    for hook in hooks:
        look = hook.after_step if result.taken else hook.after_skip
        look(session, result)


class DivergenceGuard(Hook):
    """Ends a diverged run before it is saved.

    The signs are a loss or gradient norm of NaN or Inf, and, as some devices saturate where others
    overflow, a loss beyond a bound, and updates that overflow one after the other.
    """

    def __init__(self, limits: Limits = UNLIMITED):
        """Takes the device's limits."""
        self._limits = limits
        self._skipped = 0
        self._scales = []

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Raises DivergenceError naming the step and the batch's files."""
        if result.skipped:
            self._note(result)
        self._skipped, self._scales = 0, []
        scalars = result.values.scalars
        bad = [f'{name} is {value}' for name, value in scalars._asdict().items()
               if not math.isfinite(value)]
        if not bad and scalars.total_loss > self._limits.max_loss:
            bad = [f'total_loss is {scalars.total_loss:g}, beyond '
                   f'--max_loss={self._limits.max_loss:g}']
        if bad:
            raise DivergenceError(
                f'training diverged at step {result.step} ({", ".join(bad)}) on the batch of '
                f'{", ".join(result.batch.paths)}; no checkpoint holds it: lower --learning_rate, '
                'and go on with --restore from what was saved before')

    def after_skip(self, _: tf.Session, result: StepResult) -> None:
        """Counts; raises DivergenceError with the loss scale's history when it is too often."""
        self._skipped += result.skipped
        self._note(result)
        if self._skipped > self._limits.max_skipped_steps:
            raise DivergenceError(
                f'training is stuck after step {result.step}: {self._skipped} steps in a row '
                f'overflowed, more than --max_skipped_steps={self._limits.max_skipped_steps}, with '
                f'the loss scale at {" -> ".join(self._scales)}, the last on the batch of '
                f'{", ".join(result.batch.paths)}; go on with --restore from what was saved before '
                'and a lower --loss_scale or --learning_rate')

    def _note(self, result: StepResult) -> None:
        scale = f"{result.values.device_scalars.get('loss_scale', float('nan')):g}"
        if self._scales[-1:] != [scale]:
            self._scales.append(scale)
        place = f'up to step {result.step}' if result.taken else f'step {result.step + 1}'
        left_out = 'the update is' if result.skipped == 1 else f'{result.skipped} updates are'
        logger.info('%s: the gradients overflowed, %s left out; loss scale %s', place, left_out,
                    scale)


class LogHook(Hook):
    """The log line every 10 steps, in the published form that scripts parse.

    A step that the device left out takes time and makes no progress: its seconds count to the
    steps of its window, and the line tells how many there were.
    """

    def __init__(self, batch_size: int, max_steps: int):
        """Starts the clock.

        Args:
            batch_size: examples a step.
            max_steps: where the run ends, for the time left.
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
        """Counts the step to the window."""
        self._count(result)

    def line(self, result: StepResult, seconds: float) -> str:
        """The log line of a window that took ``seconds``."""
        per_step = seconds / self._steps
        left = timedelta(seconds=round(per_step * max(0, self._max_steps - result.step)))
        skipped = f', skipped {self._skipped}' if self._skipped else ''
        waited = ('' if self._data_seconds is None
                  else f', data wait {100 * self._data_seconds / seconds:.1f}%')
        return (f'Step {result.step:06}, model loss {result.values.scalars.model_loss:.4f}, total '
                f'loss {result.values.scalars.total_loss:.4f}, {per_step:.2f} seconds/step, '
                f'{self._batch_size / per_step:.2f} examples/second{waited}, ETA {left}{skipped}')


class SummaryHook(Hook):
    """TensorBoard scalars and pictures every ``every`` steps."""

    def __init__(self, writer: SummaryWriter, every: int):
        """Takes the writer and the interval in steps."""
        self._writer = writer
        self._every = every

    def after_step(self, _: tf.Session, result: StepResult) -> None:
        """Writes when it is time."""
        if not result.reaches(self._every):
            return
        batch = result.batch
        self._writer.add_scalars(result.step, {**result.values.scalars._asdict(),
                                               **result.values.device_scalars})
        self._writer.add_pictures(result.step, {
            'input_image': np.uint8(batch.images[0]),
            # Soft labels go up to the pixels of a cell.
            'seg_map_gt': map_picture(batch.seg_maps[0] / max(1, batch.seg_maps[0].max())),
            'seg_map_pred': map_picture(result.values.score_maps),
            'training_mask': map_picture(batch.training_masks[0]),
        })


class CheckpointHook(Hook):
    """Saves every ``every`` steps and at the end.

    The last step is saved at the end alone, where the statistics have been measured.
    """

    def __init__(self, writer: CheckpointWriter, every: int, max_steps: int):
        """Takes the writer, the interval in steps, and the last step."""
        self._writer = writer
        self._every = every
        self._max_steps = max_steps

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Saves when it is time."""
        if result.reaches(self._every) and result.step < self._max_steps:
            self._writer.save(session, result.step)

    def end(self, session: tf.Session, step: int) -> None:
        """Saves the last step unless that has been done."""
        if self._writer.last_saved_step != step:
            self._writer.save(session, step)


class ShareStatisticsHook(Hook):
    """Gives every process rank 0's batch-norm statistics whenever rank 0 is about to save.

    Gradients are shared by all processes, these statistics are each one's own. After a save every
    process stands where a restored one would.
    """

    def __init__(self, share: tf.Operation, every: int):
        """Takes the op, which every process runs, and the interval in steps."""
        self._share = share
        self._every = every

    def after_step(self, session: tf.Session, result: StepResult) -> None:
        """Runs the op when it is time to save."""
        if result.reaches(self._every):
            session.run(self._share)

    def end(self, session: tf.Session, step: int) -> None:
        """Runs the op for the last save."""
        session.run(self._share)


class MeasureStatisticsHook(Hook):
    """Re-estimates batch norm's statistics for the averaged weights when a run is complete.

    The moving ones follow the raw weights, which are not those that detection uses. A signal ends
    the measuring; what has been measured then counts.
    """

    def __init__(self, graph: TrainGraph, feeds: Iterator[Dict[tf.Tensor, np.ndarray]],
                 config: TrainConfig, wanted: Callable[[], bool]):
        """Takes what to measure and on what.

        Args:
            graph: of training.
            feeds: what to feed for each batch; nothing where the graph reads its data itself.
            config: of the run.
            wanted: whether a signal asks for the end.
        """
        self._graph = graph
        self._feeds = feeds
        self._config = config
        self._is_ending = wanted

    def end(self, session: tf.Session, step: int) -> None:
        """Measures, where the run has come to its end."""
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
        """Sums of the batches' statistics, float64, and over how many batches."""
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
    """Keeps every process until rank 0 has saved; it is the last hook of each.

    Launchers take a process that leaves, after a signal say, for a failed one, and end what is left
    of the job within seconds: before rank 0 has written its checkpoint.
    """

    def __init__(self, share: tf.Operation):
        """Stores an op that is a barrier for all processes."""
        self._share = share

    def end(self, session: tf.Session, _: int) -> None:
        """Waits for all processes."""
        session.run(self._share)


class FinalFigures(Hook):
    """Writes four lines at the end of a run, in the form that the model zoos' scripts parse.

        Final Train Accuracy 0.2346             the last total loss: the name is the zoos' own
        E2E Training Duration sec 3661.20       from the hook's making to the last save
        avg time per step 0.3012                seconds, over the applied steps after the first
        FPS 46.48                               examples of all processes per second, over the same

    The first step compiles the graph, for minutes on some devices, so the averages leave it out
    (or those that the device took with it by itself). Time spent in steps that were left out
    counts, and so does that of saving in between.
    """

    def __init__(self, batch_size: int, write: Callable[[str], None]):
        """Starts the clock.

        Args:
            batch_size: examples a step, of all processes together.
            write: gets each line, without a line break.
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
        """Writes the lines; the averages are nan where no step came after the first."""
        per_step = (self._last_ended - self._first_ended) / self._steps if self._steps else math.nan
        self._write(f'Final Train Accuracy {self._loss:.4f}')
        self._write(f'E2E Training Duration sec {time.perf_counter() - self._made:.2f}')
        self._write(f'avg time per step {per_step:.4f}')
        self._write(f'FPS {self._batch_size / per_step:.2f}')
