"""NPUEstimator over TensorFlow's; NPU.md, sections 3 and 9."""

import inspect
import os
from typing import Callable, List, Optional

import tensorflow as tf
from fake_npu.environment import demand_estimator_job, rank_size
from fake_npu.release import not_established
from fake_npu.session import watch

from npu_bridge.estimator.npu.npu_config import NPURunConfig
from npu_bridge.estimator.npu.npu_hook import (
    NPUBroadcastGlobalVariablesHook,
    NPUCheckpointSaverHook,
)
from npu_bridge.estimator.npu.util import IterationPerLoop


class NPUEstimatorSpec(tf.estimator.EstimatorSpec):
    """An EstimatorSpec with a host_call, (function, tensors), for summaries."""

    def __new__(cls, mode, *args, host_call=None, **kwargs):
        if host_call is not None:
            not_established('the outfeed of host_call')
        return super().__new__(cls, mode, *args, **kwargs)


class _LoadIterations(tf.train.SessionRunHook):
    """Tells the device how many steps a run takes, once there is a session."""

    def __init__(self, loop: IterationPerLoop, iterations_per_loop: int):
        self._loop = loop
        self._iterations = iterations_per_loop

    def after_create_session(self, session, coord):
        """Loads the number."""
        self._loop.load_iteration_per_loop_var(session, self._iterations)


class NPUEstimator(tf.estimator.Estimator):
    """An Estimator with the adapter's demands and hooks."""

    def __init__(self, model_fn: Optional[Callable] = None,
                 model_dir: Optional[str] = None, config: Optional[NPURunConfig] = None,
                 params=None, job_start_file: str = '', warm_start_from=None):
        if not isinstance(config, NPURunConfig):
            raise ValueError(f'config must be an NPURunConfig, not {config!r}')
        if model_dir and config.model_dir and model_dir != config.model_dir:
            raise ValueError(f'model_dir={model_dir}, and {config.model_dir} in the config')
        demand_estimator_job()
        watch.of_estimator = True
        super().__init__(model_fn=_hooked(model_fn), model_dir=model_dir, config=config,
                         params=params, warm_start_from=warm_start_from)


def _hooked(model_fn: Callable) -> Callable:
    names = inspect.signature(model_fn).parameters

    def wrapped(features, labels, mode, params, config):
        optional = {'labels': labels, 'mode': mode, 'params': params, 'config': config}
        spec = model_fn(features, **{key: value for key, value in optional.items()
                                     if key in names})
        return _with_hooks(spec, config) if mode == tf.estimator.ModeKeys.TRAIN else spec
    return wrapped


def _with_hooks(spec: tf.estimator.EstimatorSpec, config: NPURunConfig):
    hooks: List[tf.train.SessionRunHook] = list(spec.training_hooks)
    train_op = spec.train_op
    if rank_size() > 1 and not config.horovod_mode:
        hooks.append(NPUBroadcastGlobalVariablesHook(0, int(os.environ.get('RANK_ID') or 0)))
    iterations = config.npu_parameters['iterations_per_loop']
    if iterations > 1:
        loop = IterationPerLoop()
        train_op = loop.create_iteration_per_loop_var(getattr(train_op, 'op', train_op))
        hooks.append(_LoadIterations(loop, iterations))
    # An interval of 0 is none, and not the default.
    if config.save_checkpoints_steps or config.save_checkpoints_secs:
        hooks.append(NPUCheckpointSaverHook(
            config.model_dir, save_steps=config.save_checkpoints_steps,
            save_secs=config.save_checkpoints_secs, scaffold=spec.scaffold))
    return spec._replace(train_op=train_op, training_hooks=tuple(hooks))
