"""The closing lines that model zoos read from a run's output."""

import math
import time
from typing import Callable, Optional

import tensorflow as tf

from training.hooks import Hook, StepResult


class FinalFigures(Hook):
    """Writes four lines at the end of a run, in the form that the zoos' scripts cut into fields.

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
        self._write('Final Train Accuracy %.4f' % self._loss)
        self._write('E2E Training Duration sec %.2f' % (time.perf_counter() - self._made))
        self._write('avg time per step %.4f' % per_step)
        self._write('FPS %.2f' % (self._batch_size / per_step))
