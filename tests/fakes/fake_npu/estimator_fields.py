"""Fields of NPURunConfig and the session configuration made of them; NPU.md, sections 5.4 and 9."""

from typing import Any, Dict

import tensorflow as tf

from fake_npu.parameters import NAME, known_keys
from fake_npu.release import since

_DEVELOPMENT: Dict[str, Any] = {
    'iterations_per_loop': 1, 'enable_data_pre_proc': True, 'precision_mode': None,
    'mix_compile_mode': False, 'hcom_parallel': False, 'variable_format_optimize': True,
    'graph_memory_max_size': None, 'variable_memory_max_size': None, 'auto_tune_mode': None,
    'stream_max_parallel_num': None, 'is_tailing_optimization': False, 'graph_run_mode': 1,
    'op_debug_level': 0, 'enable_scope_fusion_passes': None, 'enable_exception_dump': 0,
    'op_select_implmode': None, 'optypelist_for_implmode': None, 'mstune_mode': None,
    'work_path': None, 'buffer_optimize': 'l2_optimize', 'enable_small_channel': 0,
    'fusion_switch_file': None, 'enable_compress_weight': False, 'compress_weight_conf': None,
    'op_compiler_cache_mode': None, 'op_compiler_cache_dir': None, 'debug_dir': None,
    'hcom_multi_mode': False, 'dynamic_input': False,
    'dynamic_graph_execute_mode': 'dynamic_execute', 'dynamic_inputs_shape_range': None,
    'local_rank_id': None, 'local_device_list': None, 'session_device_id': None,
}
# The list that NPUEstimator gives instead of the toggles: without remap.
_GRAPPLER = ('pruning', 'function', 'constfold', 'shape', 'arithmetic', 'loop', 'dependency',
             'layout')


def fields_of_release() -> Dict[str, Any]:
    """Field -> default; None for what is not set.

    Releases other than development are known by what they add or lack: their lists are
    development's without the keys that they do not have, and master's is with all that came later.
    """
    fields = {key: value for key, value in _DEVELOPMENT.items() if key in known_keys()}
    if since('master'):
        later = [key for key in known_keys() if key not in _DEVELOPMENT]
        fields.update(dict.fromkeys(later), hcom_parallel=True, enable_exception_dump=2)
        del fields['auto_tune_mode']
    return fields


def session_config(parameters: Dict[str, Any]) -> tf.ConfigProto:
    """The configuration of every session that NPUEstimator opens."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.optimizers.extend(_GRAPPLER)
    entry = config.graph_options.rewrite_options.custom_optimizers.add(name=NAME)
    values = {'use_off_line': True, 'min_group_size': True, 'job': 'localhost', 'task_index': 0,
              **parameters}
    for key, field in known_keys(of_estimator=True).items():
        if key in values:
            _set(entry.parameter_map[key], field, values[key])
    return config


def _set(entry, field: str, value: Any) -> None:
    setattr(entry, field, str(value).encode('utf-8') if field == 's' else value)
