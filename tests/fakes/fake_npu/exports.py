"""The names that ``npu_init`` exports, per release; NPU.md, section 2."""

from typing import Iterator

from fake_npu.release import not_established, since

_ALWAYS = """
NPUEstimator NPURunConfig ProfilingConfig DumpConfig NPUCheckpointSaverHook NPUOutputTensorHook
NPUDistributedOptimizer NPUOptimizer NPULossScaleOptimizer FixedLossScaleManager
ExponentialUpdateLossScaleManager npu_ops npu_rnn npu_scope util keras_to_npu npu_unary_ops
hccl_ops rewriter_config_pb2 RewriterConfig create_group destroy_group get_rank_size
get_local_rank_size get_rank_id get_local_rank_id get_world_rank_from_group_rank
get_group_rank_from_world_rank set_split_strategy_by_idx set_split_strategy_by_size"""
_ADDED = {
    'development': 'NPUEstimatorSpec DynamicInputConfig npu_strategy',
    'r1.3.0': """
npu_config_proto npu_run_config_init npu_hooks_append npu_tf_optimizer npu_keras_optimizer
npu_graph_options npu_optimizer_options init_resource shutdown_resource close_session
get_npu_rank_id get_npu_rank_size get_npu_local_rank_id set_keras_session_npu_config NpuEmptyHook
KerasDistributeOptimizer NPUBroadcastGlobalVariablesHook experimental_options tf os""",
    'r1.8.0': """npu_distributed_optimizer_wrapper npu_allreduce npu_callbacks_append
get_npu_local_rank_size npu_clear_session""",
    'master': 'MemoryConfig TellMeStepOrLossHook SetIterationsVarHook npu_plugin '
              'decorator_tf_session',
}


def exported_names() -> Iterator[str]:
    """Every name of the release."""
    yield from _ALWAYS.split()
    for first, names in _ADDED.items():
        if since(first):
            yield from names.split()


class Unmodelled:
    """Stands for what exists by name and is not imitated."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *_args, **_kwargs):
        not_established(self._name)

    def __getattr__(self, attribute: str):
        if attribute.startswith('__'):
            raise AttributeError(attribute)
        return not_established(f'{self._name}.{attribute}')
