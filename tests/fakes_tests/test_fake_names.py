"""The names, signatures and demands of each release."""

import inspect

import pytest
import tensorflow as tf

from tests.fakes_tests.conftest import npu_config

NPU = 'npu_bridge.estimator.npu.'


@pytest.mark.parametrize('release, has, has_not', [
    ('r1.1.1', 'NPUEstimator create_group RewriterConfig', 'NPUEstimatorSpec npu_config_proto'),
    ('development', 'NPUEstimatorSpec DynamicInputConfig', 'npu_config_proto init_resource tf'),
    ('r1.5.0', 'npu_config_proto init_resource tf os', 'npu_distributed_optimizer_wrapper'),
    ('master', 'npu_distributed_optimizer_wrapper MemoryConfig', 'nothing_of_the_kind'),
])
def test_npu_init_exports(fake, release, has, has_not):
    fake(release)
    names = {}
    exec('from npu_bridge.npu_init import *', names)  # noqa: S102 - as scripts do it
    assert set(has.split()) <= set(names)
    assert not set(has_not.split()) & set(names)


@pytest.mark.parametrize('release, arguments', [
    ('r1.1.1', ['root_rank', 'index']), ('development', ['root_rank', 'index']),
    ('r1.5.0', ['root_rank', 'index']), ('master', ['root_rank'])])
def test_the_broadcast_lost_an_argument(fake, release, arguments):
    fake(release)
    broadcast = fake.module(NPU + 'npu_hook').broadcast_global_variables
    assert list(inspect.signature(broadcast).parameters) == arguments


def test_unknown_releases_are_refused(fake):
    with pytest.raises(ValueError, match='FAKE_NPU_RELEASE=r9'):
        fake('r9')


def test_what_is_not_known_says_so(fake):
    fake()
    with pytest.raises(Exception, match=r'does not imitate npu_ops\.LARS'):
        fake.module('npu_bridge.estimator.npu_ops').LARS()
    with pytest.raises(Exception, match=r'does not imitate npu_rnn\.dynamic_rnn'):
        _ = fake.module('npu_bridge.npu_init').npu_rnn.dynamic_rnn


def test_master_completes_every_session(fake, record):
    fake('master')
    fake.module('npu_bridge.npu_init')
    config = tf.ConfigProto()
    with pytest.raises(AssertionError, match='memory_optimization'):
        tf.Session(config=config)
    config.graph_options.rewrite_options.memory_optimization = 2
    tf.Session(config=config).close()
    assert record('session')[0]['allow_soft_placement']


@pytest.mark.parametrize('release, off', [('r1.5.0', False), ('r1.8.0', True), ('master', True)])
def test_npu_config_proto_leaves_memory_optimization_to_some(fake, release, off):
    fake(release)
    config = fake.module('npu_bridge.npu_init').npu_config_proto()
    rewrite = config.graph_options.rewrite_options
    assert [entry.name for entry in rewrite.custom_optimizers] == ['NpuOptimizer']
    assert (rewrite.memory_optimization == 2) == off


def test_ranks_can_be_asked_for_between_initialisation_and_the_end(fake):
    fake()
    api = fake.module('hccl.manage.api')
    npu_ops = fake.module('npu_bridge.estimator.npu_ops')
    start, stop = npu_ops.initialize_system(), npu_ops.shutdown_system()
    with tf.Session(config=npu_config()) as session:
        with pytest.raises(RuntimeError, match='not initialised'):
            api.get_rank_size()
        session.run(start)
        assert (api.get_rank_size(), api.get_rank_id()) == (1, 0)
        session.run(stop)
        with pytest.raises(RuntimeError, match='not initialised'):
            api.get_rank_id()


@pytest.mark.parametrize('sizes', [[60, 30], [12.5] * 9, []])
def test_splits_must_add_up(fake, sizes):
    fake()
    split = fake.module('hccl.split.api')
    with pytest.raises(ValueError, match='sum 100'):
        split.set_split_strategy_by_size(sizes)
    split.set_split_strategy_by_size([60, 40])
    with pytest.raises(ValueError, match='ascending'):
        split.set_split_strategy_by_idx([3, 1])


def test_collectives_check_their_arguments(fake):
    fake()
    ops = fake.module('npu_bridge.hccl.hccl_ops')
    with pytest.raises(ValueError, match='mean'):
        ops.allreduce(tf.ones([2]), 'mean')
    with pytest.raises(TypeError, match='int64'):
        ops.allreduce(tf.ones([2], tf.int64), 'sum')
    with pytest.raises(TypeError, match='list'):
        ops.broadcast(tf.ones([2]), 0)
    with pytest.raises(ValueError, match='divisible'):
        ops.reduce_scatter(tf.ones([3]), 'sum', 2)


@pytest.mark.parametrize('release, value', [('development', True), ('master', 1)])
def test_scopes_mark_their_nodes(fake, release, value):
    fake(release)
    scope = fake.module(NPU + 'npu_scope')
    with scope.keep_dtype_scope():
        op = tf.ones([2]).op
    assert op.get_attr('_keep_dtype') == value
    with scope.without_npu_compile_scope():
        assert tf.no_op().get_attr('_without_npu_compile')


def test_r1_1_1_has_no_keep_dtype_scope(fake):
    fake('r1.1.1')
    assert not hasattr(fake.module(NPU + 'npu_scope'), 'keep_dtype_scope')


@pytest.mark.parametrize('release, variables, error, match', [
    ('development', {}, AttributeError, '__job_info'),
    ('master', {}, ValueError, 'JOB_ID'),
    ('development', {'JOB_ID': '1'}, AttributeError, 'isdigit'),
])
def test_the_estimator_demands_a_job(fake, monkeypatch, release, variables, error, match):
    fake(release)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = fake.module(NPU + 'npu_config').NPURunConfig()
    with pytest.raises(error, match=match):
        fake.module(NPU + 'npu_estimator').NPUEstimator(lambda features: None, config=config)


@pytest.mark.parametrize('fields', [
    {'iterations_per_loop': 0}, {'mix_compile_mode': 1},
    {'mix_compile_mode': True, 'iterations_per_loop': 2}])
def test_run_config_checks_its_fields(fake, fields):
    fake()
    with pytest.raises(ValueError, match=r'iterations_per_loop|must be bool'):
        fake.module(NPU + 'npu_config').NPURunConfig(**fields)


@pytest.mark.parametrize('release', ['r1.1.1', 'development', 'r1.5.0', 'master'])
def test_the_estimator_trains_in_loops_and_saves(fake, monkeypatch, record, tmp_path, release):
    monkeypatch.setenv('JOB_ID', '10087')
    monkeypatch.setenv('RANK_SIZE', '1')
    fake(release)

    def input_fn():
        return tf.data.Dataset.from_tensors(tf.ones([4, 3])).repeat()

    def model_fn(features, mode):
        loss = tf.reduce_mean(tf.matmul(features, tf.get_variable('weights', [3, 1])))
        update = tf.train.GradientDescentOptimizer(0.1).minimize(
            loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=update)

    config = fake.module(NPU + 'npu_config').NPURunConfig(
        model_dir=str(tmp_path), iterations_per_loop=2, precision_mode='force_fp16')
    estimator = fake.module(NPU + 'npu_estimator').NPUEstimator(model_fn, config=config)
    estimator.train(input_fn, max_steps=4)
    assert estimator.latest_checkpoint().endswith('model.ckpt-4')
    assert record('session')[0]['parameters']['precision_mode'] == 'force_fp16'
