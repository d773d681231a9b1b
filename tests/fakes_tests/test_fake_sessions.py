"""What the session checker refuses, and what it lets pass and records."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from tests.fakes_tests.conftest import DEMANDED, FAKES, npu_config


def refused(match):
    return pytest.raises(AssertionError, match=match)


def train_graph(shape=(4, 3)):
    """Placeholder and update of a small regression."""
    images = tf.placeholder(tf.float32, shape, 'images')
    weights = tf.get_variable('weights', [3, 1])
    loss = tf.reduce_mean(tf.matmul(images, weights))
    return images, tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def started(config=None):
    session = tf.Session(config=config or npu_config())
    session.run(tf.global_variables_initializer())
    return session


def test_a_session_without_the_optimizer_or_with_two(fake):
    fake()
    with refused('0 custom optimizers'):
        tf.Session()
    config = npu_config()
    config.graph_options.rewrite_options.custom_optimizers.add(name='NpuOptimizer')
    with refused('2 custom optimizers'):
        tf.Session(config=config)
    config.graph_options.rewrite_options.custom_optimizers[0].name = 'NpuOptimiser'
    tf.Session(config=config).close()


@pytest.mark.parametrize('toggle', ['remapping', 'memory_optimization'])
def test_grapplers_toggles_must_be_off(fake, toggle):
    fake()
    config = npu_config()
    setattr(config.graph_options.rewrite_options, toggle, RewriterConfig.DEFAULT)
    with refused(toggle + ' is not OFF'):
        tf.Session(config=config)


@pytest.mark.parametrize('release, fields, match', [
    ('development', {'use_off_line': ('i', 1)}, r'\[use_off_line\].i is set.* reads .b'),
    ('development', {'precision_mode': ('b', True)}, r'precision_mode\].b'),
    ('development', {'sump_mode': ('s', b'all')}, 'sump_mode.* unknown'),
    ('r1.1.1', {'op_compiler_cache_mode': ('s', b'enable')}, 'unknown'),
    ('master', {'jit_compile': ('b', True)}, r'jit_compile\].b'),
    ('development', {'precision_mode': ('s', b'')}, 'empty string'),
    ('development', {'precision_mode': ('s', b'fp16')}, 'precision_mode=.fp16. is not a value'),
    ('development', {'precision_mode': ('s', b'cube_fp16in_fp32out')}, 'not a value'),
    ('development', {'graph_run_mode': ('i', 2)}, 'graph_run_mode=2'),
    ('development', {'iterations_per_loop': ('i', 0)}, 'iterations_per_loop=0'),
    ('development', {'mix_compile_mode': ('b', True), 'iterations_per_loop': ('i', 2)},
     'mix_compile_mode requires'),
    ('development', {'enable_dump': ('b', True)}, 'enable_dump needs dump_path'),
    ('development', {'enable_dump': ('b', True), 'dump_path': ('s', b'/no/where')},
     'dump_path=./no/where. is not'),
    ('development', {'dump_mode': ('s', b'all')}, 'dump_mode has no effect'),
    ('development', {'profiling_mode': ('b', True)}, 'needs profiling_options'),
    ('development', {'profiling_mode': ('b', True), 'profiling_options': ('s', b'{}')},
     'profiling_options'),
    ('r1.5.0', {'profiling_mode': ('b', True), 'profiling_options': ('s', b'task_trace')},
     'profiling_options'),
    ('development', {'buffer_optimize': ('s', b'l1_optimize')}, 'buffer_optimize'),
    ('development', {'enable_compress_weight': ('b', True),
                     'compress_weight_conf': ('s', b'file')}, 'only one of them'),
    ('development', {'variable_memory_max_size': ('s', b'10GB')}, 'variable_memory_max_size'),
    ('development', {'input_shape': ('s', b'images:1,2')}, 'all together'),
    ('development', {'mstune_mode': ('s', b'1'), 'work_path': ('s', b'.')}, 'RANK_SIZE=1'),
    ('development', {'op_compiler_cache_dir': ('s', b'.')}, 'without op_compiler_cache_mode'),
    ('development', {'op_compiler_cache_dir': ('s', b'.'),
                     'op_compiler_cache_mode': ('s', b'disable')}, 'disable'),
    ('development', {'work_path': ('s', b'.')}, 'work_path has no effect'),
    ('development', {'session_device_id': ('i', -1)}, 'session_device_id=-1'),
    ('development', {'job': ('s', b'localhost')}, 'for NPUEstimator'),
    ('r1.5.0', {'modify_mixlist': ('s', b'/no/where')}, 'modify_mixlist'),
    ('master', {'precision_mode': ('s', b'force_fp16'), 'precision_mode_v2': ('s', b'fp16')},
     'only one of them'),
])
def test_parameters_that_the_adapter_gets_wrong(fake, release, fields, match):
    fake(release)
    with refused(match):
        tf.Session(config=npu_config(**fields))


def test_merely_reading_a_parameter_leaves_an_empty_entry(fake):
    fake()
    config = npu_config()
    config.graph_options.rewrite_options.custom_optimizers[0].parameter_map['precision_mode']
    with refused('is empty'):
        tf.Session(config=config)


@pytest.mark.parametrize('release', ['r1.1.1', 'development', 'r1.5.0', 'master'])
def test_right_parameters_pass(fake, record, release, tmp_path):
    fake(release)
    fields = {'use_off_line': ('b', True), 'precision_mode': ('s', b'allow_mix_precision'),
              'enable_dump': ('b', True), 'dump_path': ('s', str(tmp_path).encode()),
              'dump_step': ('s', b'0|5|10-20'), 'iterations_per_loop': ('i', 1)}
    with tf.Session(config=npu_config(**fields)):
        pass
    parameters = record('session')[0]['parameters']
    assert parameters == {key: value.decode() if isinstance(value, bytes) else value
                          for key, (_, value) in fields.items()}


def test_sessions_of_a_process_share_one_configuration(fake):
    fake()
    tf.Session(config=npu_config()).close()
    with refused('different configurations'):
        tf.Session(config=npu_config(use_off_line=('b', True)))


@pytest.mark.parametrize('variables, match', [
    ({'ASCEND_DEVICE_ID': '-1'}, 'ASCEND_DEVICE_ID=-1'),
    ({'DEVICE_ID': 'npu0'}, 'DEVICE_ID=npu0'),
    ({'RANK_SIZE': '2'}, 'needs JOB_ID'),
    ({'RANK_SIZE': '2', 'JOB_ID': '1'}, 'needs RANK_TABLE_FILE'),
    ({'RANK_TABLE_FILE': 'table.json'}, 'without RANK_ID or POD_NAME'),
    ({'RANK_TABLE_FILE': 'table.json', 'RANK_ID': '0'}, 'cannot be used'),
])
def test_environments_that_the_device_refuses(fake, monkeypatch, variables, match):
    fake()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with refused(match):
        tf.Session(config=npu_config())


def test_a_rank_table_describes_exactly_the_ranks(fake, monkeypatch, tmp_path):
    fake()
    table = {'version': '1.0', 'status': 'completed', 'server_count': '1', 'server_list': [
        {'server_id': '127.0.0.1', 'device': [
            {'device_id': '0', 'device_ip': '192.168.100.101', 'rank_id': '0'}]}]}
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(table))
    for name, value in {'RANK_ID': '0', 'JOB_ID': '1', 'RANK_TABLE_FILE': str(path)}.items():
        monkeypatch.setenv(name, value)
    tf.Session(config=npu_config()).close()
    monkeypatch.setenv('RANK_SIZE', '2')
    with refused('describes the ranks'):
        tf.Session(config=npu_config())
    monkeypatch.delenv('RANK_SIZE')
    path.write_text(json.dumps(dict(table, status='initializing')))
    with refused('initializing'):
        tf.Session(config=npu_config())


def test_what_is_missing_without_harm_is_recorded(fake, record):
    fake()
    tf.Session(config=npu_config()).close()
    assert [event['text'].split()[0] for event in record('warning')] == ['neither', 'JOB_ID']


def test_each_distinct_fetch_list_is_recorded_once(fake, record):
    fake()
    images, update = train_graph()
    with started() as session:
        for _ in range(3):
            session.run(update, {images: np.ones((4, 3))})
    runs = [(event['kind'], event['feeds']) for event in record('run')]
    assert runs == [('host', {}), ('train', {'images:0': [4, 3]})]


def test_a_placeholder_without_a_shape(fake):
    fake()
    images, update = train_graph((None, 3))
    with started() as session, refused(r'placeholder images has the shape \(\?, 3\)'):
        session.run(update, {images: np.ones((4, 3))})


def test_another_shape_for_the_same_fetches(fake):
    fake()
    images = tf.placeholder_with_default(np.ones((4, 3), np.float32), [4, 3])
    scale = tf.placeholder(tf.float32, [])
    product = tf.matmul(images, tf.ones([3, 1])) * scale
    run_rules = fake.module('fake_npu.run_rules')
    rules = run_rules.RunRules()
    reach = fake.module('fake_npu.reach').reached_ops([product.op], [])
    for shape in ((), ()):
        rules.check(run_rules.Run(product.graph, ['a'], {'scale': np.ones(shape)}, reach), {})
    with refused('was compiled for'):
        rules.check(run_rules.Run(product.graph, ['a'], {'scale': np.ones((2,))}, reach), {})


@pytest.mark.parametrize('build, match', [
    (lambda x: tf.boolean_mask(x, x[:, 0] > 0), 'cannot compile'),
    (lambda x: tf.cast(x, tf.float64), 'float64'),
    (lambda x: tf.py_func(np.copy, [x], tf.float32), 'PyFunc'),
    (lambda x: tf.summary.scalar('mean', tf.reduce_mean(x)), 'ScalarSummary|strings'),
    (lambda x: tf.image.encode_png(tf.cast(x[:, :, None], tf.uint8)), 'EncodePng|strings'),
])
def test_ops_that_the_device_does_not_take(fake, build, match):
    fake()
    product = tf.matmul(tf.placeholder(tf.float32, [4, 3], 'images'), tf.ones([3, 3]))
    fetched = build(product)
    with started() as session, refused(match):
        session.run(fetched, {'images:0': np.ones((4, 3))})


def test_a_gpu_scope(fake):
    fake()
    with tf.device('/gpu:0'):
        total = tf.ones([2]) + 1
    config = npu_config()
    config.allow_soft_placement = True
    with started(config) as session, refused('tf.device'):
        session.run(total)


def test_a_fork_after_the_first_session(fake):
    fake()
    pid = os.fork()
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    tf.Session(config=npu_config()).close()
    with refused('forked'):
        os.fork()
    subprocess.run([sys.executable, '-c', ''], check=True)


def test_loops_on_the_device_agree_with_the_configuration(fake):
    fake()
    weight = tf.get_variable('weight', initializer=1.0)
    update = tf.train.GradientDescentOptimizer(0.5).minimize(weight * 2)
    util = fake.module('npu_bridge.estimator.npu.util')
    with started(npu_config(iterations_per_loop=('i', 3))) as session:
        assert util.set_iteration_per_loop(session, update) is update
        with refused('iterations_per_loop=3'):
            session.run(update)
        loop = util.set_iteration_per_loop(session, update, 3)
        assert loop.name == 'IterationOp'
        session.run(loop)
        assert session.run(weight) == -2


def test_a_script_finds_the_fake_by_its_path(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(
        'import tensorflow as tf\n'
        'from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer\n'
        'tf.Session()\n')
    environment = {name: value for name, value in os.environ.items() if name not in DEMANDED}
    done = subprocess.run([sys.executable, str(script)], check=False, stderr=subprocess.PIPE,
                          env=dict(environment, PYTHONPATH=FAKES))
    assert done.returncode == 1
    assert b'0 custom optimizers named NpuOptimizer' in done.stderr
