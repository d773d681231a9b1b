"""Values of the parameter_map that need, or exclude, others; NPU.md, sections 5.1 to 5.3."""

from typing import Any, Dict, Iterator

from fake_npu.environment import rank_size
from fake_npu.release import since

# Key -> what must be set, and true where it is a bool, for the key to have an effect.
_NEEDS = {
    'optypelist_for_implmode': ('op_select_implmode',),
    'op_compiler_cache_dir': ('op_compiler_cache_mode',),
    'mstune_mode': ('work_path',),
    'work_path': ('mstune_mode', 'aoe_mode'),
    'fp_point': ('profiling_mode',),
    'bp_point': ('profiling_mode',),
    'dump_data': ('enable_dump',),
    'dump_layer': ('enable_dump',),
    'dynamic_graph_execute_mode': ('dynamic_input',),
    'dynamic_inputs_shape_range': ('dynamic_input',),
    'profiling_options': ('profiling_mode',),
    'dump_step': ('enable_dump', 'enable_dump_debug'),
    'dump_mode': ('enable_dump', 'enable_dump_debug'),
    'dump_path': ('enable_dump', 'enable_dump_debug'),
    'dump_debug_mode': ('enable_dump_debug',),
}
# NPURunConfig sets these whether they are of use or not.
_SET_ANYWAY_BY_ESTIMATOR = ('dump_step', 'dump_mode', 'dump_path', 'dump_debug_mode',
                            'dynamic_graph_execute_mode', 'profiling_options')
_DYNAMIC_DIMS = ('input_shape', 'dynamic_dims', 'dynamic_node_type')
_EXCLUDE = (('enable_compress_weight', 'compress_weight_conf'),
            ('precision_mode', 'precision_mode_v2'),
            ('auto_tune_mode', 'mstune_mode'), ('auto_tune_mode', 'aoe_mode'))


def pair_faults(values: Dict[str, Any], of_estimator: bool) -> Iterator[str]:
    """What is wrong with values that are right by themselves; one sentence each."""
    yield from _lonely(values, of_estimator)
    for first, second in _EXCLUDE:
        if first in values and second in values:
            yield f'{first} and {second} are both set, and only one of them counts'
    yield from _dump_and_profiling(values)
    yield from _compilation(values)
    yield from _ranks(values)
    if not of_estimator:
        for key in ('job', 'task_index'):
            if key in values:
                yield f'{key} is for NPUEstimator; a session script leaves it unset'


def _lonely(values: Dict[str, Any], of_estimator: bool) -> Iterator[str]:
    for key, needed in _NEEDS.items():
        if of_estimator and key in _SET_ANYWAY_BY_ESTIMATOR:
            continue
        if key in values and not any(values.get(other) for other in needed):
            yield f"{key} has no effect without {' or '.join(needed)}"


def _dump_and_profiling(values: Dict[str, Any]) -> Iterator[str]:
    for key in ('enable_dump', 'enable_dump_debug'):
        if values.get(key) and 'dump_path' not in values:
            yield f'{key} needs dump_path'
    if values.get('profiling_mode') and 'profiling_options' not in values \
            and not since('master'):
        yield 'profiling_mode needs profiling_options'


def _compilation(values: Dict[str, Any]) -> Iterator[str]:
    dynamic = [key for key in _DYNAMIC_DIMS if key in values]
    if dynamic and len(dynamic) != len(_DYNAMIC_DIMS):
        yield f"{', '.join(_DYNAMIC_DIMS)} must be set all together, not {dynamic} alone"
    if values.get('mix_compile_mode'):
        if values.get('iterations_per_loop', 1) != 1:
            yield 'mix_compile_mode requires iterations_per_loop=1'
        if dynamic:
            yield f"mix_compile_mode does not go with {', '.join(dynamic)}"
    if 'modify_mixlist' in values and not _is_mixed(values):
        yield 'modify_mixlist needs precision_mode=allow_mix_precision'
    if values.get('dynamic_input') and 'dynamic_inputs_shape_range' not in values:
        yield 'dynamic_input needs dynamic_inputs_shape_range'
    if 'op_compiler_cache_dir' in values and values.get('op_compiler_cache_mode') == 'disable':
        yield 'op_compiler_cache_dir has no effect with op_compiler_cache_mode=disable'


def _is_mixed(values: Dict[str, Any]) -> bool:
    if not since('master'):
        return values.get('precision_mode') == 'allow_mix_precision'
    return (values.get('precision_mode', '').startswith('allow_mix_precision')
            or values.get('precision_mode_v2', '').startswith('mixed_'))


def _ranks(values: Dict[str, Any]) -> Iterator[str]:
    if 'mstune_mode' in values and rank_size() <= 1:
        yield 'mstune_mode has no effect with RANK_SIZE=1'
    if values.get('op_compiler_cache_mode') == 'force' and rank_size() > 1:
        yield 'op_compiler_cache_mode=force clears the cache that other ranks use'
