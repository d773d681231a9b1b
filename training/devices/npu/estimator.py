"""Training through NPUEstimator: the same graph, hooks and checkpoints, with data from tf.data.

The Estimator owns the session, and its graph is final before the session exists; the device may run
several steps before the host sees the last one. Otherwise training works as in ``training.loop``: a
hook of the Estimator passes each result to the training hooks. Saving, restoring and logging of the
Estimator are disabled, so that a run can continue with either API.
"""

import contextlib
import os
import tempfile
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional

import numpy as np
import tensorflow as tf
from tensorflow.python.training.saver import BaseSaverBuilder

from training.checkpoints import build_saver, build_start
from training.devices.npu.options import (
    NpuConfig,
    iterations_per_loop,
    make_run_config,
    named_refusal,
    prepare_environment,
)
from training.devices.npu.session import loading
from training.graph import Inputs, TrainGraph, build_train_graph, input_specs
from training.hooks import Batch, Hook, StepResult, tell
from training.loop import RunContext, TakeSteps, named_lack_of_memory, open_hooks
from utils.data_provider.data_provider import Batches
from utils.errors import PSENetError

# Batches waiting for the device, in addition to those of the readers.
_PREFETCH = 2


def in_estimator(npu: NpuConfig) -> TakeSteps:
    """Returns a function that runs the steps through NPUEstimator, for ``training.loop.train``.

    Args:
        npu: options of the adapter, including ``iterations_per_loop``.

    Raises:
        PSENetError: the environment is not suitable for NPUEstimator.
    """
    prepare_environment(os.environ)
    return lambda run: _train(run, npu)


def _train(run: RunContext, npu: NpuConfig) -> None:
    with loading():
        from npu_bridge.estimator.npu import npu_config
        from npu_bridge.estimator.npu.npu_estimator import NPUEstimator
    specs = input_specs(run.config, run.device)
    feed = _Feed(run.batches)
    # The Estimator would restore any checkpoint in its directory, and fail on missing variables.
    with tempfile.TemporaryDirectory(prefix='psenet_') as empty, \
            named_lack_of_memory(specs), contextlib.ExitStack() as stack:
        config = make_run_config(
            npu_config, npu.options, model_dir=empty, tf_random_seed=run.batches.seed,
            save_checkpoints_steps=0, save_summary_steps=0, log_step_count_steps=None)
        steps = _Steps(run, feed, iterations_per_loop(npu), stack)
        with named_refusal(npu.options):
            estimator = NPUEstimator(steps.build, config=config)
        with run.stop.deferred():
            estimator.train(lambda: feed.dataset(specs), [steps])
    if feed.error is not None:
        raise feed.error


class _Feed:
    """Passes the readers' batches to tf.data, and keeps what the hooks need."""

    def __init__(self, batches: Batches):
        self._batches = batches
        self._handed: Deque[Batch] = deque()
        self.error: Optional[Exception] = None    # error that ended the data

    def dataset(self, specs: Inputs) -> tf.data.Dataset:
        """Creates a dataset of batches as dicts with the names of ``Inputs``."""
        return tf.data.Dataset.from_generator(
            self._hand_over, {name: spec.dtype for name, spec in specs._asdict().items()},
            {name: spec.shape for name, spec in specs._asdict().items()}).prefetch(_PREFETCH)

    def _hand_over(self) -> Iterator[Dict[str, np.ndarray]]:
        try:
            for batch in map(Batch._make, self._batches):
                # Keep one sample, as whole batches would stay in memory until the device is done.
                self._handed.append(Batch(batch.images[:1].copy(), batch.paths,
                                          batch.seg_maps[:1].copy(),
                                          batch.training_masks[:1].copy()))
                yield Inputs(batch.images, batch.seg_maps, batch.training_masks)._asdict()
        except (PSENetError, RuntimeError) as error:
            # tf.data would turn the exception into text. If the data ends instead, the run ends
            # normally and is saved.
            self.error = error

    def take(self, count: int) -> Batch:
        """Removes the batches of ``count`` steps and returns the last one."""
        return [self._handed.popleft() for _ in range(count)][-1]


class FloatStep(BaseSaverBuilder.SaveableObject):
    """Saves the Estimator's int64 step as float32, as in published checkpoints."""

    def __init__(self, step: tf.Variable):
        value = tf.to_float(step)
        super().__init__(step, [BaseSaverBuilder.SaveSpec(value, '', step.op.name)], step.op.name)

    def restore(self, restored_tensors, restored_shapes) -> tf.Operation:
        """Restores the step; called by TensorFlow."""
        return tf.assign(self.op, tf.cast(restored_tensors[0], self.op.dtype.base_dtype))


class _Steps(tf.train.SessionRunHook):
    """Builds the graph for an Estimator, and passes its steps to the training hooks."""

    def __init__(self, run: RunContext, feed: _Feed, per_loop: int, stack: contextlib.ExitStack):
        """Stores the run, its data, the steps per loop, and the stack that closes the hooks."""
        self._run = run
        self._feed = feed
        self._per_loop = per_loop
        self._stack = stack
        self._step = run.first_step
        self._graph: Optional[TrainGraph] = None
        self._saver: Optional[tf.train.Saver] = None
        self._hooks: Optional[List[Hook]] = None

    def build(self, features: Dict[str, tf.Tensor], mode: str) -> tf.estimator.EstimatorSpec:
        """Builds the graph; the model function of the Estimator."""
        run = self._run
        self._graph = build_train_graph(run.config, run.device, Inputs(**features))
        load = build_start(run.config, run.start, self._graph.average)
        self._saver = build_saver(FloatStep(tf.train.get_global_step()))
        fetches = self._graph.fetches
        return tf.estimator.EstimatorSpec(
            mode, loss=fetches.scalars.total_loss, train_op=fetches.update,
            scaffold=tf.train.Scaffold(init_fn=lambda _, session: load(session),
                                       saver=self._saver))

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Opens the training hooks; the variables have their values."""
        if self._hooks is not None:
            # A new session would start from the initial weights and the next batch.
            raise PSENetError(f'the session on the device was lost after step {self._step}; '
                              'continue from the last checkpoint with --restore')
        self._hooks = self._stack.enter_context(open_hooks(self._run, self._graph, self._saver))

    def before_run(self, run_context: tf.train.SessionRunContext) -> tf.train.SessionRunArgs:
        """Requests the fetches of the step; the Estimator runs the update."""
        return tf.train.SessionRunArgs(self._graph.fetches._replace(update=[]))

    def after_run(self, run_context: tf.train.SessionRunContext,
                  run_values: tf.train.SessionRunValues) -> None:
        """Calls the hooks; ends the run at the last step or after a signal."""
        values: Any = run_values.results
        before, self._step = self._step, int(values.global_step)
        taken = self._step - before
        tell(self._hooks, run_context.session, StepResult(
            self._step, values, self._feed.take(self._per_loop), None, taken,
            skipped=self._per_loop - taken))
        if self._run.stop.wanted or self._step >= self._run.config.max_steps:
            run_context.request_stop()

    def end(self, session: tf.Session) -> None:
        """Lets the hooks save, unless nothing has changed."""
        # If the data ended within a loop, there were steps without a result.
        self._step = int(session.run(tf.train.get_global_step(session.graph)))
        if self._step > self._run.first_step:
            for hook in self._hooks:
                hook.end(session, self._step)
