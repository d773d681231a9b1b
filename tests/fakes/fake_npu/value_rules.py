"""Which values, and which pairs of them, the adapter takes; NPU.md, sections 5.1, 5.2 and 5.3."""

import json
import os
import re
from typing import Any, Callable, Dict, Iterator

from fake_npu.release import since
from fake_npu.value_pairs import pair_faults

_PRECISION_MODES = ('allow_fp32_to_fp16', 'force_fp16', 'must_keep_origin_dtype',
                    'allow_mix_precision', 'force_fp32')
_LATER_PRECISION_MODES = ('cube_fp16in_fp32out', 'allow_mix_precision_fp16',
                          'allow_mix_precision_bf16', 'allow_fp32_to_bf16')
_CHOICES = {
    'graph_run_mode': (0, 1),
    'dump_mode': ('input', 'output', 'all'),
    'dump_debug_mode': ('aicore_overflow', 'atomic_overflow', 'all'),
    'auto_tune_mode': ('RL', 'GA', 'RL,GA', 'GA,RL'),
    'mstune_mode': ('1', '2', '3', '4'),
    'aoe_mode': ('1', '2', '4'),
    'enable_exception_dump': (0, 1, 2),
    'op_select_implmode': ('high_performance', 'high_precision'),
    'op_compiler_cache_mode': ('enable', 'force', 'disable'),
    'buffer_optimize': ('l2_optimize', 'off_optimize'),
    'dynamic_graph_execute_mode': ('lazy_recompile', 'dynamic_execute'),
    'dynamic_node_type': (0, 1),
    'local_rank_id': tuple(range(8)),
    'deterministic': (0, 1),
    'dump_data': ('tensor', 'stats'),
    'graph_slice': ('auto', 'manual'),
    'jit_compile': ('true', 'false', 'auto'),
}
_PATTERNS = {
    'variable_memory_max_size': r'[1-9]\d*',
    'graph_memory_max_size': r'[1-9]\d*',
    'dump_step': r'\d+(-\d+)?(\|\d+(-\d+)?){0,99}',
    'stream_max_parallel_num': r'\w+:\d+(,\w+:\d+)*',
    'local_device_list': r'\d+(,\d+)*',
}
_LOWEST = {'iterations_per_loop': 1, 'session_device_id': 0, 'op_debug_level': 0}
_PROFILING_KEYS = {'output', 'training_trace', 'task_trace', 'hccl', 'aicpu', 'fp_point',
                   'bp_point', 'aic_metrics'}


def value_faults(values: Dict[str, Any], of_estimator: bool) -> Iterator[str]:
    """What is wrong with the values of a parameter_map whose fields are right.

    Args:
        values: key -> bool, int or str.
        of_estimator: whether NPUEstimator set them.

    Yields:
        One sentence for each fault.
    """
    for key, value in values.items():
        if key in _CHECKS and not _CHECKS[key](value):
            yield f'{key}={value!r} is not a value that the adapter takes'
    yield from pair_faults(values, of_estimator)


def _one_of(choices) -> Callable[[Any], bool]:
    return lambda value: value in choices


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _at_least(lowest: int) -> Callable[[int], bool]:
    return lambda value: value >= lowest


def _is_precision_mode(value: str) -> bool:
    later = _LATER_PRECISION_MODES if since('master') else ()
    return value in _PRECISION_MODES + later


def _is_precision_mode_v2(value: str) -> bool:
    later = ('cube_hif8', 'mixed_hif8') if since('2026') else ()
    return value in ('fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16',
                     'mixed_bfloat16') + later


def _is_usable_folder(value: str) -> bool:
    return os.path.isdir(value) and os.access(value, os.R_OK | os.W_OK)


def _is_json_file(value: str) -> bool:
    try:
        with open(value, encoding='utf-8') as file:
            json.load(file)
    except (OSError, ValueError):
        return False
    return True


def _are_profiling_options(value: str) -> bool:
    if not since('r1.3.0'):
        return set(value.split(':')) <= {'training_trace', 'task_trace'}
    try:
        options = json.loads(value)
    except ValueError:
        return False
    return isinstance(options, dict) and set(options) <= _PROFILING_KEYS


_CHECKS = {
    'precision_mode': _is_precision_mode,
    'precision_mode_v2': _is_precision_mode_v2,
    'modify_mixlist': _is_json_file,
    'fusion_switch_file': _is_json_file,
    'op_precision_mode': os.path.isfile,
    'dump_path': _is_usable_folder,
    'work_path': os.path.isdir,
    'profiling_options': _are_profiling_options,
}
_CHECKS.update({key: _one_of(choices) for key, choices in _CHOICES.items()})
_CHECKS.update({key: _like(pattern) for key, pattern in _PATTERNS.items()})
_CHECKS.update({key: _at_least(lowest) for key, lowest in _LOWEST.items()})
