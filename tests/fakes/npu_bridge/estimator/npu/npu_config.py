"""Configuration of NPUEstimator; NPU.md, section 9.

The order of the arguments is not known, so they are taken by name alone, except for DumpConfig and
its like, whose order is.
"""

from typing import Any, Dict, NoReturn, Optional

import tensorflow as tf
from fake_npu import estimator_fields
from fake_npu.release import not_established, since

_RUN_CONFIG_FIELDS = (
    'model_dir', 'tf_random_seed', 'save_summary_steps', 'save_checkpoints_steps',
    'save_checkpoints_secs', 'keep_checkpoint_max', 'keep_checkpoint_every_n_hours',
    'log_step_count_steps', 'train_distribute', 'eval_distribute')


class _Settings:
    """Values of a part of the parameter_map."""

    def __init__(self, **values: Any):
        self.values = {key: value for key, value in values.items() if value is not None}


class _ProfilingConfig(_Settings):
    """What to profile."""

    def __init__(self, enable_profiling: bool = False, profiling_options: Optional[str] = None):
        super().__init__(profiling_mode=enable_profiling, profiling_options=profiling_options)


class _EarlyProfilingConfig(_Settings):
    """What to profile, in r1.1.1."""

    def __init__(self, enable_profiling: bool = False, enable_options=None,
                 fp_point: Optional[str] = None, bp_point: Optional[str] = None):
        options = ':'.join(enable_options) if enable_options else None
        super().__init__(profiling_mode=enable_profiling, profiling_options=options,
                         fp_point=fp_point, bp_point=bp_point)


ProfilingConfig = _ProfilingConfig if since('development') else _EarlyProfilingConfig


class DumpConfig(_Settings):
    """What to dump."""

    def __init__(self, enable_dump: bool = False,
                 dump_path: Optional[str] = None, dump_step: Optional[str] = None,
                 dump_mode: str = 'output', enable_dump_debug: bool = False,
                 dump_debug_mode: str = 'all'):
        super().__init__(enable_dump=enable_dump, dump_path=dump_path, dump_step=dump_step,
                         dump_mode=dump_mode, enable_dump_debug=enable_dump_debug,
                         dump_debug_mode=dump_debug_mode)


if since('development'):
    class DynamicInputConfig(_Settings):
        """Several input shapes."""

        def __init__(self, input_shape: str, dynamic_dims: str, dynamic_node_type: int):
            super().__init__(input_shape=input_shape, dynamic_dims=dynamic_dims,
                             dynamic_node_type=dynamic_node_type)


class NpuExecutePlacement:
    """Exists in every release; its members are not known here."""

    def __init__(self, *_args, **_kwargs):
        not_established('npu_config.NpuExecutePlacement')


class NPURunConfig(tf.estimator.RunConfig):
    """A RunConfig that makes the session configuration out of fields named like its keys."""

    def __init__(self, *, session_config: Optional[tf.ConfigProto] = None,
                 distribute=None, horovod_mode: bool = False, **fields: Any):
        if session_config is not None or distribute is not None:
            _refuse_unknown()
        plain = {'save_summary_steps': 0, 'keep_checkpoint_max': 5, 'log_step_count_steps': 100}
        plain.update({name: fields.pop(name) for name in _RUN_CONFIG_FIELDS if name in fields})
        if not {'save_checkpoints_steps', 'save_checkpoints_secs'} & set(plain):
            plain['save_checkpoints_steps'] = 100
        self.npu_parameters = _parameters(fields)
        self.horovod_mode = horovod_mode
        _check(self.npu_parameters, horovod_mode)
        super().__init__(session_config=estimator_fields.session_config(self.npu_parameters),
                         **plain)


def _refuse_unknown() -> NoReturn:
    not_established('NPURunConfig with session_config or distribute')


def _parameters(fields: Dict[str, Any]) -> Dict[str, Any]:
    values = estimator_fields.fields_of_release()
    for part in ('profiling_config', 'dump_config', 'dynamic_input_config'):
        settings = fields.pop(part, None)
        values.update(settings.values if settings is not None else {})
    for name, value in fields.items():
        if name not in values:
            raise TypeError(f'__init__() got an unexpected keyword argument {name!r}')
        values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def _check(parameters: Dict[str, Any], horovod_mode: bool) -> None:
    iterations = parameters['iterations_per_loop']
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f'iterations_per_loop must be a positive int, not {iterations!r}')
    mixed = parameters['mix_compile_mode']
    if not isinstance(mixed, bool) or not isinstance(horovod_mode, bool):
        raise ValueError('mix_compile_mode and horovod_mode must be bool')
    if mixed and iterations != 1:
        raise ValueError('mix_compile_mode requires iterations_per_loop=1')
