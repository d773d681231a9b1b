"""What an NPUEstimator demands of flags and environment, and how it is told the adapter's options.

It makes the session's configuration itself, from the fields of NPURunConfig. Most have the name of
the option; a few options go through a configuration of their own.
"""

import inspect
import re
from contextlib import contextmanager
from typing import (
    Any,
    Collection,
    Dict,
    Iterator,
    List,
    MutableMapping,
    NamedTuple,
    Type,
)

from training.config import TrainConfig
from training.npu_options import NpuConfig, Value
from utils.errors import PSENetError, first_line

# What the device does by itself ends with its last step; nothing may fall in between.
_INTERVALS = ('max_steps', 'save_checkpoint_steps', 'save_summary_steps')
_REFUSED = {
    'compress_weight_conf': 'NPUEstimator sets enable_compress_weight as well, and the adapter '
                            'aborts on both',
}
# They would have NPUEstimator join a cluster, or start from files that the flags do not name.
_DISTURBING = ('TF_CONFIG', 'LOCAL_CHECKPOINT_DIR', 'RESTORE_FROM')


class _Part(NamedTuple):
    """A field of NPURunConfig that holds several options.

    name: of the class in npu_config.
    arguments: option -> argument of the class.
    """

    name: str
    arguments: Dict[str, str]


_PARTS = {
    'dump_config': _Part('DumpConfig', {key: key for key in (
        'enable_dump', 'dump_path', 'dump_step', 'dump_mode', 'enable_dump_debug',
        'dump_debug_mode', 'dump_data', 'dump_layer')}),
    'profiling_config': _Part('ProfilingConfig', {
        'profiling_mode': 'enable_profiling', 'profiling_options': 'profiling_options',
        'fp_point': 'fp_point', 'bp_point': 'bp_point'}),
}


def iterations_per_loop(config: NpuConfig) -> int:
    """Steps that the device takes by itself."""
    return config.options.get('iterations_per_loop', 1)


def check_estimator(train: TrainConfig, npu: NpuConfig, world_size: int) -> None:
    """Refuses flags that cannot go together with ``--api=estimator``.

    Args:
        train: the run.
        npu: how it uses the NPU.
        world_size: processes that train together.

    Raises:
        PSENetError: the first fault found.
    """
    for fault in _loop_faults(train, npu) + _option_faults(npu, world_size):
        raise PSENetError(fault)


def _loop_faults(train: TrainConfig, npu: NpuConfig) -> List[str]:
    steps = iterations_per_loop(npu)
    faults = ['--%s=%d must be a multiple of --iterations_per_loop=%d'
              % (name, getattr(train, name), steps)
              for name in _INTERVALS if getattr(train, name) % steps]
    if steps > 1 and 'aoe_mode' in npu.options:
        faults.append('--aoe_mode needs --iterations_per_loop=1')
    return faults


def _option_faults(npu: NpuConfig, world_size: int) -> List[str]:
    faults = ['%s cannot be given with --api=estimator: %s' % (key, why)
              for key, why in _REFUSED.items() if key in npu.options]
    if world_size > 1:
        faults.append('--api=estimator trains on one NPU, and the job has %d ranks; '
                      '--api=session trains on several' % world_size)
    return faults


def prepare_environment(environment: MutableMapping[str, str]) -> None:
    """Checks the variables that NPUEstimator reads, and sets RANK_SIZE where it is missing.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Raises:
        PSENetError: a variable is missing, or set where none may be.
    """
    if not environment.get('JOB_ID'):
        raise PSENetError('JOB_ID must be set for --api=estimator, to any number; train_npu.sh '
                          'sets 10087')
    for name in _DISTURBING:
        if environment.get(name):
            raise PSENetError('%s=%s would change what --api=estimator does; unset it (--restore '
                              'and --pretrained_model_path say what a run starts from)'
                              % (name, environment[name]))
    # Missing means 1 everywhere else; here some releases fail.
    if not (environment.get('RANK_SIZE') or environment.get('CM_WORKER_SIZE')):
        environment['RANK_SIZE'] = '1'


def make_run_config(npu_config: Any, options: Dict[str, Value], **fields: Any) -> Any:
    """Makes the NPURunConfig that holds the options.

    Args:
        npu_config: the adapter's module of that name.
        options: NpuOptimizer's key -> value.
        fields: further fields.

    Returns:
        The configuration.

    Raises:
        PSENetError: the installed release cannot be told one of the options in this way.
    """
    for field, part in _PARTS.items():
        given = {part.arguments[key]: options[key] for key in part.arguments if key in options}
        if given:
            fields[field] = _make(getattr(npu_config, part.name), given)
    in_parts = {key for part in _PARTS.values() for key in part.arguments}
    plain = {key: value for key, value in options.items() if key not in in_parts}
    return _make(npu_config.NPURunConfig, {**plain, **fields})


def _make(kind: Type[Any], arguments: Dict[str, Any]) -> Any:
    if 'enable_options' in inspect.signature(kind).parameters and 'profiling_options' in arguments:
        # The ProfilingConfig of r1.1.1.
        arguments['enable_options'] = arguments.pop('profiling_options').split(':')
    with named_refusal(arguments, kind.__name__):
        return kind(**arguments)


@contextmanager
def named_refusal(options: Collection[str], refuser: str = 'NPUEstimator') -> Iterator[None]:
    """Turns what the adapter's constructors raise into a sentence that names the options.

    Args:
        options: keys of those given, or names of arguments.
        refuser: the class.

    Raises:
        PSENetError: it refuses what it was given.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        named = [key for key in options if re.search(rf'\b{re.escape(key)}\b', str(error))]
        named = ', '.join(f'--{key}' for key in named or options)
        raise PSENetError('--api=estimator: %s of the installed adapter does not take the options '
                          'given (%s)%s; leave that one out, or give --api=session'
                          % (refuser, first_line(error), f': {named}' if named else '')) from error
