"""What NPUEstimator is told and what is refused, over the fake adapter's configurations."""

import importlib
import json

import pytest

from tests.training.npu_on_path import fake_npu_bridge
from training.config import TrainConfig
from training.devices.npu.options import (
    NpuConfig,
    check_estimator,
    make_run_config,
    named_refusal,
    prepare_environment,
)
from utils.errors import PSENetError

MULTIPLES = {'max_steps': 100, 'save_checkpoint_steps': 50, 'save_summary_steps': 10}


@pytest.fixture
def parameters(monkeypatch):
    """parameters(release, **options) -> NpuOptimizer's key -> value in the session."""
    def of(release, **options):
        monkeypatch.setenv('FAKE_NPU_RELEASE', release)
        with fake_npu_bridge():
            module = importlib.import_module('npu_bridge.estimator.npu.npu_config')
            config = make_run_config(module, options, save_checkpoints_steps=0)
            fake = importlib.import_module('fake_npu.parameters')
            return fake.check_config(config.session_config, of_estimator=True)
    return of


@pytest.mark.parametrize('release', ['r1.1.1', 'development', 'r1.5.0', 'master'])
def test_options_arrive_under_their_keys(parameters, release, tmp_path):
    given = {'precision_mode': 'allow_mix_precision', 'iterations_per_loop': 4,
             'graph_memory_max_size': '1000', 'hcom_parallel': True,
             'enable_dump_debug': True, 'dump_path': str(tmp_path), 'dump_step': '0|5'}
    found = parameters(release, **given)
    assert {key: found[key] for key in given} == given


def test_nothing_but_defaults_where_nothing_is_given(parameters):
    assert parameters('development')['iterations_per_loop'] == 1
    assert 'dump_path' not in parameters('development')


@pytest.mark.parametrize('release, options', [
    ('r1.1.1', 'training_trace:task_trace'), ('r1.5.0', json.dumps({'training_trace': 'on'}))])
def test_profiling_follows_the_release(parameters, release, options):
    found = parameters(release, profiling_mode=True, profiling_options=options)
    assert (found['profiling_mode'], found['profiling_options']) == (True, options)


@pytest.mark.parametrize('release, options, part', [
    ('development', {'jit_compile': 'auto'}, "NPURunConfig .*'jit_compile'"),
    ('master', {'auto_tune_mode': 'RL'}, "NPURunConfig .*'auto_tune_mode'"),
    ('r1.5.0', {'profiling_mode': True, 'profiling_options': '{}', 'fp_point': 'a'},
     "_?ProfilingConfig .*'fp_point'"),
])
def test_what_a_release_cannot_be_told_is_named(parameters, release, options, part):
    with pytest.raises(PSENetError, match='--api=estimator: ' + part + '.*--api=session'):
        parameters(release, **options)


@pytest.mark.parametrize('train, options, world_size, part', [
    ({'max_steps': 101}, {'iterations_per_loop': 2}, 1, '--max_steps=101 must be a multiple'),
    ({'save_checkpoint_steps': 5}, {'iterations_per_loop': 10}, 1, '--save_checkpoint_steps=5'),
    ({'save_summary_steps': 5}, {'iterations_per_loop': 10}, 1, '--save_summary_steps=5'),
    ({}, {'iterations_per_loop': 2, 'aoe_mode': '1'}, 1, 'aoe_mode=... needs'),
    ({}, {'compress_weight_conf': 'a.cfg'}, 1, 'compress_weight_conf cannot be given'),
    ({}, {}, 8, 'the job has 8 ranks; use --api=session for several'),
])
def test_what_cannot_go_together_is_refused(train, options, world_size, part):
    with pytest.raises(PSENetError, match=part):
        check_estimator(TrainConfig(**{**MULTIPLES, **train}), NpuConfig(options=options),
                        world_size)


@pytest.mark.parametrize('steps', [1, 2, 5, 10])
def test_intervals_that_are_multiples_are_taken(steps):
    check_estimator(TrainConfig(**MULTIPLES), NpuConfig(options={'iterations_per_loop': steps}), 1)


@pytest.mark.parametrize('given, rank_size', [
    ({}, '1'), ({'RANK_SIZE': ''}, '1'), ({'RANK_SIZE': '1'}, '1'),
    ({'CM_WORKER_SIZE': '1'}, None)])
def test_a_missing_rank_size_is_one(given, rank_size):
    environment = {'JOB_ID': '1', **given}
    prepare_environment(environment)
    assert environment.get('RANK_SIZE') == rank_size


@pytest.mark.parametrize('environment, part', [
    ({}, 'JOB_ID must be set'), ({'JOB_ID': ''}, 'JOB_ID must be set'),
    ({'JOB_ID': '1', 'TF_CONFIG': '{}'}, 'TF_CONFIG={} would change'),
    ({'JOB_ID': '1', 'RESTORE_FROM': '/a'}, 'RESTORE_FROM=/a would change'),
])
def test_the_environment_is_checked(environment, part):
    with pytest.raises(PSENetError, match=part):
        prepare_environment(environment)


@pytest.mark.parametrize(('error', 'named'), [
    (ValueError('jit_compile must be a bool'), r'must be a bool\): --npu_option=jit_compile=...;'),
    (TypeError('unexpected argument'), r': --npu_option=jit_compile=..., --dump_path; remove')])
def test_what_the_constructor_refuses_is_a_sentence_with_the_option(error, named):
    with pytest.raises(PSENetError, match=f'--api=estimator: NPUEstimator .*{named}'), \
            named_refusal(['jit_compile', 'dump_path']):
        raise error
