"""The adapter's options: the table against the releases' own, and what is refused with a flag."""

import json
import os
import re

import pytest
from absl import flags

from training.devices.npu.options import (
    NpuConfig,
    check_for_ranks,
    define_npu_flags,
    npu_config_from_flags,
    parse_npu_options,
    validate,
)
from training.devices.npu.table import OPTIONS, UNUSABLE_KEYS
from utils.errors import PSENetError


@pytest.fixture
def read(monkeypatch):
    """read('--flag=value', ...): the configuration that the flags give."""
    values = flags.FlagValues()
    for name in ('boolean', 'integer', 'float', 'string', 'enum', 'multi_string'):
        define = getattr(flags, 'DEFINE_' + name)
        monkeypatch.setattr(flags, 'DEFINE_' + name,
                            lambda *args, define=define, **kwargs: define(
                                *args, **{**kwargs, 'flag_values': values}))
    define_npu_flags()

    def read_flags(*arguments):
        values.unparse_flags()
        values(['npu_train.py', *arguments])
        return npu_config_from_flags(values)
    return read_flags


@pytest.fixture(scope='module')
def releases(project_root):
    """What each release of the adapter reads: {release: {key: field}}."""
    path = project_root / 'tests' / 'fakes' / 'fake_npu' / 'parameter_map.json'
    return json.loads(path.read_text(encoding='utf-8'))


def test_every_key_of_every_release_has_its_place_and_field(releases):
    known = {key: field for table in releases.values() for key, field in table.items()}
    assert set(known) == set(OPTIONS) | set(UNUSABLE_KEYS)
    assert {key: option.field for key, option in OPTIONS.items()} == {
        key: known[key] for key in OPTIONS}
    assert len(OPTIONS) + len(UNUSABLE_KEYS) == len(known)


def test_nothing_is_set_unless_asked_for(read):
    assert read() == NpuConfig(loss_scale=1024.0, loss_scale_mode='fixed', options={})


def test_flags_give_values_of_their_types(read, tmp_path):
    config = read('--precision_mode=allow_mix_precision', '--npu_option=mix_compile_mode=true',
                  '--npu_option=op_debug_level=1', '--enable_dump_debug',
                  f'--dump_path={tmp_path}',
                  '--npu_option=hcom_parallel=true', '--npu_option=frozen_variable=0',
                  '--npu_option=hccl_timeout=600', '--npu_option=fp_point=a=b',
                  '--profiling_mode', '--profiling_options={"a": "on"}',
                  '--loss_scale=4096', '--loss_scale_mode=dynamic', '--max_loss=5',
                  '--max_skipped_steps=7')
    assert config == NpuConfig(4096.0, 'dynamic', 7, 5.0, {
        'precision_mode': 'allow_mix_precision', 'mix_compile_mode': True, 'op_debug_level': 1,
        'enable_dump_debug': True, 'dump_path': str(tmp_path), 'hcom_parallel': True,
        'frozen_variable': False, 'hccl_timeout': 600, 'fp_point': 'a=b', 'profiling_mode': True,
        'profiling_options': '{"a": "on"}'})


def test_a_switch_that_is_turned_off_is_set_to_false(read):
    assert read('--noenable_dump', '--npu_option=mix_compile_mode=false').options == {
        'enable_dump': False, 'mix_compile_mode': False}


@pytest.mark.parametrize('mode', [
    'allow_fp32_to_fp16', 'force_fp16', 'must_keep_origin_dtype', 'allow_mix_precision',
    'force_fp32', 'cube_fp16in_fp32out', 'allow_mix_precision_fp16', 'allow_mix_precision_bf16',
    'allow_fp32_to_bf16'])
def test_every_precision_mode_is_taken(mode):
    validate(NpuConfig(options={'precision_mode': mode}))


def test_an_estimator_may_loop():
    validate(NpuConfig(api='estimator', options={'iterations_per_loop': 10}))


@pytest.mark.parametrize('options', [
    {'dump_step': '0|5|10-20'}, {'graph_memory_max_size': '16106127360'},
    {'stream_max_parallel_num': 'DNN_VM_TF:10,DNN_V100:1'}, {'auto_tune_mode': 'RL,GA'},
    {'iterations_per_loop': 1, 'mix_compile_mode': True}, {'jit_compile': 'false'},
    {'op_compiler_cache_mode': 'enable', 'op_compiler_cache_dir': '/cache'},
    {'op_select_implmode': 'high_precision', 'optypelist_for_implmode': 'Gelu'},
])
def test_values_that_the_adapter_takes(options, tmp_path):
    if 'dump_step' in options:
        options = {**options, 'enable_dump': True, 'dump_path': str(tmp_path)}
    validate(NpuConfig(options=options))


@pytest.mark.parametrize('options, part', [
    ({'precision_mode': 'fp16'}, '--precision_mode=fp16 must be one of allow_fp32_to_fp16'),
    ({'precision_mode_v2': 'force_fp16'}, '--precision_mode_v2=force_fp16 must be one of fp16'),
    ({'iterations_per_loop': 10}, '--iterations_per_loop=10 must be 1'),
    ({'iterations_per_loop': 0}, '--iterations_per_loop=0 must be at least 1'),
    ({'dump_path': '/no/such'}, '--dump_path=/no/such is not a directory'),
    ({'dump_step': '1,2'}, '--dump_step=1,2 must be'),
    ({'dump_step': '|'.join(map(str, range(101)))}, 'at most 100'),
    ({'dump_mode': 'both'}, 'dump_mode=both must be one of'),
    ({'graph_memory_max_size': '16GB'}, '--graph_memory_max_size=16GB must be a number of bytes'),
    ({'variable_memory_max_size': '0'}, '--variable_memory_max_size=0 must'),
    ({'modify_mixlist': '/no/such.json'}, 'modify_mixlist=/no/such.json is not a JSON file'),
    ({'buffer_optimize': 'none'}, 'buffer_optimize=none must be one of'),
    ({'stream_max_parallel_num': 'AICPU'}, 'stream_max_parallel_num=AICPU must be ENGINE'),
    ({'session_device_id': -1}, 'session_device_id=-1 must be at least 0'),
    ({'enable_exception_dump': 3}, 'enable_exception_dump=3 must be between 0 and 2'),
    ({'jit_compile': 'True'}, 'jit_compile=True must be one of'),
    ({'aoe_mode': '3'}, 'aoe_mode=3 must be one of'),
    ({'profiling_options': ''}, '--profiling_options= must be'),
    ({'profiling_options': '{"a": '}, 'must be names such as training_trace:task_trace'),
    ({'modify_mixlist': __file__}, 'is not a JSON file'),
    ({'fusion_switch_file': '/no/such.cfg'}, 'is not a JSON file'),
])
def test_values_that_the_adapter_aborts_on_are_refused(options, part):
    with pytest.raises(PSENetError) as caught:
        validate(NpuConfig(options=options))
    assert part in str(caught.value)
    assert str(caught.value).startswith('--')


def existing(tmp_path):
    """A JSON file, for flags that name one."""
    path = tmp_path / 'list.json'
    path.write_text('{}')
    return str(path)


@pytest.mark.parametrize('options, flags_named', [
    ({'enable_dump': True}, ['--enable_dump', '--dump_path']),
    ({'enable_dump_debug': True}, ['--enable_dump_debug', '--dump_path']),
    ({'dump_path': '.'}, ['--dump_path', '--enable_dump', '--enable_dump_debug']),
    ({'dump_path': '.', 'enable_dump': False}, ['--dump_path', '--enable_dump']),
    ({'dump_mode': 'all'}, ['dump_mode=...', '--enable_dump', '--enable_dump_debug']),
    ({'dump_step': '5'}, ['--dump_step', '--enable_dump', '--enable_dump_debug']),
    ({'dump_path': '.', 'enable_dump': True, 'dump_debug_mode': 'all'},
     ['dump_debug_mode=...', '--enable_dump_debug']),
    ({'profiling_options': 'task_trace'}, ['--profiling_options', '--profiling_mode']),
    ({'fp_point': 'a'}, ['fp_point=...', '--profiling_mode']),
    ({'optypelist_for_implmode': 'Gelu'},
     ['optypelist_for_implmode=...', 'op_select_implmode=...']),
    ({'work_path': '.'}, ['work_path=...', 'aoe_mode=... or --npu_option=mstune_mode=']),
    ({'mstune_mode': '1'}, ['mstune_mode=...', 'work_path=...']),
    ({'mstune_mode': '1', 'work_path': '.', 'aoe_mode': '2'}, ['mstune_mode=...', 'aoe_mode=...']),
    ({'op_compiler_cache_dir': '/c'}, ['--op_compiler_cache_dir', '--op_compiler_cache_mode']),
    ({'op_compiler_cache_dir': '/c', 'op_compiler_cache_mode': 'disable'},
     ['--op_compiler_cache_dir', '--op_compiler_cache_mode']),
    ({'modify_mixlist': existing}, ['modify_mixlist=...', '--precision_mode=allow_mix_precision']),
    ({'modify_mixlist': existing, 'precision_mode': 'force_fp16'},
     ['modify_mixlist=...', '--precision_mode=allow_mix_precision']),
    ({'precision_mode': 'force_fp16', 'precision_mode_v2': 'fp16'},
     ['--precision_mode', '--precision_mode_v2']),
    ({'auto_tune_mode': 'GA', 'aoe_mode': '2'}, ['--auto_tune_mode', 'aoe_mode=...']),
    ({'enable_compress_weight': False, 'compress_weight_conf': 'c'},
     ['enable_compress_weight=...', 'compress_weight_conf=...']),
])
def test_pairs_that_the_adapter_ignores_or_aborts_on_are_refused(options, flags_named, tmp_path):
    options = {key: value(tmp_path) if callable(value) else value
               for key, value in options.items()}
    with pytest.raises(PSENetError) as caught:
        validate(NpuConfig(options=options))
    for name in flags_named:
        assert name in str(caught.value)


@pytest.mark.parametrize('options, wrong, right', [
    ({'mstune_mode': '1', 'work_path': '.'}, 1, 2),
    ({'op_compiler_cache_mode': 'force', 'op_compiler_cache_dir': '/c'}, 2, 1)])
def test_options_that_are_not_for_so_many_processes(options, wrong, right):
    validate(NpuConfig(options=options))
    check_for_ranks(options, right)
    with pytest.raises(PSENetError, match=next(iter(options))):
        check_for_ranks(options, wrong)


def test_a_dump_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: not mode & os.W_OK)
    with pytest.raises(PSENetError, match='readable and writable'):
        validate(NpuConfig(options={'enable_dump': True, 'dump_path': str(tmp_path)}))


@pytest.mark.parametrize('text, part', [
    ('hcom_parallel', 'key=value'),
    ('=1', 'must have the form key=value'),
    ('oo_level=', 'must have a non-empty string'),
    ('input_fusion_size=large', 'must have an integer'),
    ('input_batch_cpy=7', 'must have true or false'),
    ('precision_mode=force_fp16', 'give --precision_mode=force_fp16'),
    ('use_off_line=false', '--platform=gpu for the host'),
    ('enable_data_pre_proc=true', 'every step is fed'),
    ('input_shape=data:1', 'all shapes of the graph are static'),
    ('dynamic_dims=1', 'all shapes of the graph are static'),
    ('local_rank_id=1', 'this process uses one device'),
    ('hcom_parallel=yes', 'true or false'),
    ('hccl_timeout=1.5', 'an integer'),
    ('soc_config=', 'non-empty'),
])
def test_npu_options_that_would_do_nothing_are_refused(text, part):
    with pytest.raises(PSENetError) as caught:
        parse_npu_options([text])
    assert str(caught.value).startswith('--npu_option=')
    assert part in str(caught.value)


def test_an_npu_option_given_twice_is_refused():
    with pytest.raises(PSENetError, match='--npu_option=hccl_timeout is given twice'):
        parse_npu_options(['hccl_timeout=1', 'hccl_timeout=2'])


@pytest.mark.parametrize('name, value', [
    ('loss_scale', 0.5), ('loss_scale', float('nan')), ('loss_scale', float('inf')),
    ('max_skipped_steps', -1), ('max_loss', 0.0), ('max_loss', float('nan'))])
def test_loss_scaling_that_cannot_work_is_refused(name, value):
    with pytest.raises(PSENetError, match=f'--{name}='):
        validate(NpuConfig()._replace(**{name: value}))


@pytest.mark.parametrize(('text', 'value', 'words'), [
    ('future_switch=true', True, 'future_switch: .* passed on as a boolean'),
    ('future_count=-3', -3, 'passed on as an integer'),
    ('future_path=/a', '/a', 'passed on as a string'),
    ('sump_mode=all', 'all', 'passed on as a string; did you mean dump_mode'),
])
def test_an_option_of_a_newer_release_is_passed_on_with_a_warning(text, value, words, messages):
    key = text.split('=')[0]
    assert parse_npu_options([text]) == {key: value}
    message, = messages()
    assert re.search(words, message)


@pytest.mark.parametrize('options', [
    {'modify_mixlist': 'here', 'precision_mode': 'allow_mix_precision'},
    {'modify_mixlist': 'here', 'precision_mode': 'allow_mix_precision_bf16'},
    {'modify_mixlist': 'here', 'precision_mode_v2': 'mixed_hif8'},
    {'precision_mode_v2': 'cube_hif8'}, {'profiling_mode': True}])
def test_what_newer_releases_take(options, tmp_path):
    (tmp_path / 'mixlist.json').write_text('{}')
    options = {key: str(tmp_path / 'mixlist.json') if value == 'here' else value
               for key, value in options.items()}
    validate(NpuConfig(options=options))


def test_a_path_may_begin_with_the_home_directory(read, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    options = read('--enable_dump', '--dump_path=~/', '--npu_option=aoe_config_file=~/a').options
    assert options['dump_path'] == f'{tmp_path}/'
    assert options['aoe_config_file'] == f'{tmp_path}/a'
