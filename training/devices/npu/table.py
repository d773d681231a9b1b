"""Options in the ``parameter_map`` of ``NpuOptimizer``, in releases of 2021 to 2026.

The options in ``FLAGS`` have a flag each, the others in ``OPTIONS`` are given by ``--npu_option``.
``UNUSABLE_KEYS`` would be ignored, or break the run, in a training loop that feeds one device with
static shapes.
"""

import json
import os
import re
from typing import Callable, NamedTuple, Optional, Union

Check = Callable[[Union[bool, int, str]], Optional[str]]
# Maximum number of parts in dump_step.
_MAX_DUMP_PARTS = 100


class NpuOption(NamedTuple):
    """An option of the adapter.

    field: the oneof field that the adapter reads: 'b', 'i' or 's'.
    help: help text of its flag, whose name is the key; '' without a flag.
    check: value -> description of a fault, to follow ``--key=value``, or None if it is valid.
    """

    field: str
    help: str = ''
    check: Optional[Check] = None


def _one_of(*choices: str) -> Check:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _between(low: int, high: int) -> Check:
    return lambda value: (None if low <= value <= high
                          else f'must be between {low} and {high}')


def _matches(pattern: str, form: str) -> Check:
    return lambda value: None if re.fullmatch(pattern, value) else f'must be {form}'


def _folder(value: str) -> Optional[str]:
    if not os.path.isdir(value):
        return 'is not a directory; create it'
    writable = os.access(value, os.R_OK | os.W_OK | os.X_OK)
    return None if writable else 'must be readable and writable'


def _file(value: str) -> Optional[str]:
    return None if os.path.isfile(value) else 'is not a file'


def _json_file(value: str) -> Optional[str]:
    try:
        with open(value, encoding='utf-8') as file:
            json.load(file)
    except (OSError, ValueError) as error:
        return f'is not a JSON file ({error})'
    return None


def _profiling(value: str) -> Optional[str]:
    if re.fullmatch(r'\w+(:\w+)*', value):
        return None
    try:
        json.loads(value)
    except ValueError:
        return 'must be names such as training_trace:task_trace, or JSON'
    return None


def _at_least(low: int) -> Check:
    return lambda value: None if value >= low else f'must be at least {low}'


def _dump_step(value: str) -> Optional[str]:
    parts = value.split('|')
    if len(parts) > _MAX_DUMP_PARTS or not all(re.fullmatch(r'\d+(-\d+)?', one) for one in parts):
        return f'must be at most {_MAX_DUMP_PARTS} step numbers and ranges such as 0|5|10-20'
    return None


_bytes = _matches('[1-9][0-9]*', 'a number of bytes, such as 16106127360')
_not_empty = _matches('.+', 'a non-empty string')

FLAGS = {
    'precision_mode': NpuOption(
        's', 'Precision of float32 operators: allow_fp32_to_fp16 (default of training), force_fp16 '
        '(default of detection), must_keep_origin_dtype, allow_mix_precision, force_fp32; since '
        'late 2023 also cube_fp16in_fp32out, allow_mix_precision_fp16, allow_mix_precision_bf16, '
        'allow_fp32_to_bf16.',
        _one_of('allow_fp32_to_fp16', 'force_fp16', 'must_keep_origin_dtype',
                'allow_mix_precision', 'force_fp32', 'cube_fp16in_fp32out',
                'allow_mix_precision_fp16', 'allow_mix_precision_bf16', 'allow_fp32_to_bf16')),
    'precision_mode_v2': NpuOption(
        's', 'Since late 2023, replaces --precision_mode: fp16, origin, cube_fp16in_fp32out, '
        'mixed_float16, mixed_bfloat16; later also cube_hif8, mixed_hif8.',
        _one_of('fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16', 'mixed_bfloat16',
                'cube_hif8', 'mixed_hif8')),
    'iterations_per_loop': NpuOption(
        'i', 'Steps per loop on the device; more than 1 needs --api=estimator.', _at_least(1)),
    'graph_memory_max_size': NpuOption(
        's', 'Bytes of device memory for feature maps; together with --variable_memory_max_size at '
        "most the device's memory.", _bytes),
    'variable_memory_max_size': NpuOption(
        's', 'Bytes of device memory for variables.', _bytes),
    'enable_dump': NpuOption(
        'b', 'Dump tensors of each operator to --dump_path.'),
    'enable_dump_debug': NpuOption(
        'b', 'Dump operators that overflow to --dump_path.'),
    'dump_path': NpuOption(
        's', 'Existing directory for dumps.', _folder),
    'dump_step': NpuOption(
        's', 'Steps to dump, such as 0|5|10-20; by default all.', _dump_step),
    'profiling_mode': NpuOption(
        'b', 'Profile according to --profiling_options, which has a default in newer releases.'),
    'profiling_options': NpuOption(
        's', 'Before April 2021 a string such as training_trace:task_trace, later JSON: {"output": '
        '"/directory", "training_trace": "on", "task_trace": "on"}.', _profiling),
    'auto_tune_mode': NpuOption(
        's', 'Tune operators when they are built: RL, GA or RL,GA.',
        _one_of('RL', 'GA', 'RL,GA', 'GA,RL')),
    'op_compiler_cache_mode': NpuOption(
        's', 'Cache of compiled operators: enable, force (clear it first) or disable.',
        _one_of('enable', 'force', 'disable')),
    'op_compiler_cache_dir': NpuOption(
        's', 'Directory of the cache of compiled operators.', _not_empty),
}

# Formerly flags; given by --npu_option like OTHER_KEYS, but with checked values.
CHECKED_KEYS = {
    'modify_mixlist': NpuOption('s', check=_json_file),
    'op_precision_mode': NpuOption('s', check=_file),
    'op_select_implmode': NpuOption('s', check=_one_of('high_performance', 'high_precision')),
    'optypelist_for_implmode': NpuOption('s', check=_not_empty),
    'mix_compile_mode': NpuOption('b'),
    'dump_mode': NpuOption('s', check=_one_of('input', 'output', 'all')),
    'dump_debug_mode': NpuOption('s', check=_one_of('aicore_overflow', 'atomic_overflow', 'all')),
    'aoe_mode': NpuOption('s', check=_one_of('1', '2', '4')),
    'mstune_mode': NpuOption('s', check=_one_of('1', '2', '3', '4')),
    'work_path': NpuOption('s', check=_folder),
    'op_debug_level': NpuOption('i', check=_at_least(0)),
    'debug_dir': NpuOption('s', check=_not_empty),
    'enable_exception_dump': NpuOption('i', check=_between(0, 2)),
    'fusion_switch_file': NpuOption('s', check=_json_file),
    'buffer_optimize': NpuOption('s', check=_one_of('l2_optimize', 'off_optimize')),
    'stream_max_parallel_num': NpuOption(
        's', check=_matches(r'\w+:[1-9]\d*(,\w+:[1-9]\d*)*', 'ENGINE:number, separated by commas')),
    'session_device_id': NpuOption('i', check=_at_least(0)),
    'deterministic': NpuOption('i', check=_between(0, 1)),
    'jit_compile': NpuOption('s', check=_one_of('true', 'false', 'auto')),
}

_ONE_DEVICE = 'this process uses one device'
_STATIC = 'all shapes of the graph are static'
_FED = 'the option is for input pipelines of TensorFlow, but every step is fed'

UNUSABLE_KEYS = {
    'use_off_line': 'it is always on; use train.py or eval.py --platform=gpu for the host',
    'graph_run_mode': 'it is 1 for training and 0 for detection',
    'job': 'a session script leaves it unset',
    'task_index': 'a session script leaves it unset',
    'enable_data_pre_proc': _FED,
    'dynamic_input': _STATIC,
    'dynamic_graph_execute_mode': _STATIC,
    'dynamic_inputs_shape_range': _STATIC,
    'dynamic_dims': _STATIC,
    'dynamic_node_type': _STATIC,
    'input_shape': _STATIC,
    'local_rank_id': _ONE_DEVICE,
    'local_device_list': _ONE_DEVICE,
    'is_tailing_optimization': 'it is for an optimizer that is not used here',
}

# All other keys, by field.
OTHER_KEYS = {
    **dict.fromkeys((
        'all_tensor_not_empty', 'compile_dynamic_mode', 'enable_compress_weight',
        'enable_graph_parallel', 'external_weight', 'frozen_variable',
        'hcom_multi_mode', 'hcom_parallel', 'in_out_pair_flag', 'input_batch_cpy',
        'lower_functional_ops', 'oo_constant_folding', 'variable_format_optimize'), 'b'),
    **dict.fromkeys((
        'atomic_clean_policy', 'compile_hybrid_mode', 'enable_small_channel',
        'event_sync_timeout', 'export_compile_stat', 'graph_exec_timeout',
        'graph_max_parallel_model_num', 'hccl_timeout', 'input_fusion_size',
        'op_execute_timeout', 'op_wait_timeout', 'static_memory_policy', 'stream_sync_timeout',
        'topo_sorting_mode', 'variable_use_1g_huge_page'), 'i'),
    **dict.fromkeys((
        'HCCL_algorithm', 'ac_parallel_enable', 'aicore_num', 'aoe_config_file',
        'auto_multistream_parallel_mode', 'bp_point',
        'compress_weight_conf', 'const_input', 'customize_dtypes', 'device_type',
        'distribute_config', 'dump_data', 'dump_layer', 'enable_scope_fusion_passes',
        'es_cluster_config', 'experimental_accelerate_train_mode',
        'experimental_logical_device_cluster_deploy_mode', 'experimental_logical_device_id',
        'experimental_model_deploy_devicelist', 'experimental_model_deploy_mode', 'fp_point',
        'graph_compiler_cache_dir', 'graph_parallel_option_path', 'graph_slice', 'in_out_pair',
        'insert_op_file', 'memory_optimization_policy', 'oo_level', 'op_debug_config',
        'op_tune_mode', 'optimization_switch', 'quant_dumpable', 'resource_config_path',
        'shape_generalization_mode', 'soc_config', 'variable_placement'), 's'),
}

OPTIONS = {**FLAGS, **CHECKED_KEYS, **{key: NpuOption(field) for key, field in OTHER_KEYS.items()}}
