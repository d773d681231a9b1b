"""Options of the NPU adapter: flags, checks, and NPURunConfig.

The adapter reads each option from a typed field of the ``parameter_map`` of ``NpuOptimizer``. It
silently ignores a wrong field, a misspelt key or an option without its partner, and many wrong
values abort the process minutes later. Therefore all of these are rejected before the start.
NPUEstimator creates the session's configuration from the fields of NPURunConfig: most have the name
of the option, some belong to a nested configuration.
"""

import difflib
import inspect
import os
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
    Optional,
    Type,
    Union,
)

from absl import flags

from training.config import TrainConfig
from training.devices.npu.table import CHECKED_KEYS, FLAGS, OPTIONS, UNUSABLE_KEYS
from utils.cli import MOVED_FLAGS, group
from utils.errors import PSENetError, first_line
from utils.utils_tool import logger

Value = Union[bool, int, str]
_BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}


class NpuConfig(NamedTuple):
    """Configuration of training on an NPU; all fields except ``options`` are flag names."""

    loss_scale: float = 1024.0
    loss_scale_mode: str = 'fixed'
    max_skipped_steps: int = 100
    max_loss: float = 100.0
    options: Dict[str, Value] = {}  # noqa: RUF012 - NpuOptimizer key -> value, if given
    api: str = 'session'


_DEFAULTS = NpuConfig()


def define_npu_flags() -> None:
    """Defines the flags of training on an NPU (absl; call once, in an entry script)."""
    flags.DEFINE_enum(
        'api', _DEFAULTS.api, ['session', 'estimator'],
        'session feeds each batch to the device; estimator trains through NPUEstimator and '
        'tf.data, where the device can run --iterations_per_loop steps at a time. A run can '
        'continue with either.', **group('NPU'))
    _define_loss_flags()
    define_option_flags()


def define_option_flags() -> None:
    """Defines the flags of the adapter's options, for training and detection."""
    npu = group('NPU (left to the adapter unless given)')
    define = {'b': flags.DEFINE_boolean, 'i': flags.DEFINE_integer, 's': flags.DEFINE_string}
    for key, option in FLAGS.items():
        define[option.field](key, None, option.help, **npu)
    MOVED_FLAGS.update({key: f'--npu_option={key}=<value>' for key in CHECKED_KEYS})
    flags.DEFINE_multi_string(
        'npu_option', [],
        'Any other option of the adapter, key=value; may be repeated. Options that the installed '
        'release does not know have no effect; options of no known release are passed on with a '
        'warning, with the type guessed from the value: boolean, integer or string.', **npu)


def _define_loss_flags() -> None:
    scaling = group('loss scaling and divergence')
    flags.DEFINE_float(
        'loss_scale', _DEFAULTS.loss_scale,
        'Factor of the loss, by which gradients are divided again, to preserve small gradients in '
        'float16; the initial scale with --loss_scale_mode=dynamic.', **scaling)
    flags.DEFINE_enum(
        'loss_scale_mode', _DEFAULTS.loss_scale_mode, ['fixed', 'dynamic'],
        'dynamic doubles the scale after 1000 steps without overflow, and halves it after 2 with '
        'overflow.', **scaling)
    flags.DEFINE_integer(
        'max_skipped_steps', _DEFAULTS.max_skipped_steps,
        'Maximum number of consecutive steps that are skipped because gradients overflow; more end '
        'the run. (A dynamic scale needs up to 64 to decrease from 2**32 to 1.)', **scaling)
    flags.DEFINE_float(
        'max_loss', _DEFAULTS.max_loss,
        'Maximum of the total loss; a higher one ends the run, as the device saturates instead of '
        'giving Inf or NaN. The dice terms are below 1, and weight decay adds little.', **scaling)


def npu_config_from_flags(flag_values: flags.FlagValues) -> NpuConfig:
    """Reads and checks the flags of ``define_npu_flags``.

    Args:
        flag_values: the parsed absl flags.

    Returns:
        The configuration.

    Raises:
        PSENetError: a key, a value or a combination is invalid; the message names the flag.
    """
    config = NpuConfig(flag_values.loss_scale, flag_values.loss_scale_mode,
                       flag_values.max_skipped_steps, flag_values.max_loss,
                       _read_options(flag_values), flag_values.api)
    validate(config)
    return config


def options_from_flags(flag_values: flags.FlagValues) -> Dict[str, Value]:
    """Reads and checks the flags of ``define_option_flags``.

    Args:
        flag_values: the parsed absl flags.

    Returns:
        NpuOptimizer key -> value, for the options that were given.

    Raises:
        PSENetError: a key, a value or a combination is invalid; the message names the flag.
    """
    options = _read_options(flag_values)
    for fault in _option_faults(options) + _fed_faults(options):
        raise PSENetError(fault)
    return options


def _read_options(flag_values: flags.FlagValues) -> Dict[str, Value]:
    given = {key: getattr(flag_values, key) for key in FLAGS}
    options = {key: _expanded(value) for key, value in given.items() if value is not None}
    options.update(parse_npu_options(flag_values.npu_option))
    return options


def _expanded(value: Value) -> Value:
    """Expands a leading ~ to the home directory; only paths begin with one."""
    return os.path.expanduser(value) if isinstance(value, str) else value


def parse_npu_options(texts: List[str]) -> Dict[str, Value]:
    """Parses ``--npu_option``.

    Args:
        texts: ``key=value`` each.

    Returns:
        Key -> value of the type that the adapter expects.

    Raises:
        PSENetError: a text is malformed, the key has its own flag, is given twice or cannot be used
            here, or the value has the wrong type.
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition('=')
        fault = _key_fault(text, key, bool(key and equals)) or (
            f'--npu_option={key} is given twice; give it once' if key in options else None)
        if fault:
            raise PSENetError(fault)
        field = OPTIONS[key].field if key in OPTIONS else _field_of_unknown(key, value)
        options[key] = _parse_value(text, field, value)
    return options


def _key_fault(text: str, key: str, has_value: bool) -> Optional[str]:
    if not has_value:
        return f'--npu_option={text} must have the form key=value'
    if key in FLAGS:
        return f'--npu_option={text} has its own flag: give --{text}'
    if key in UNUSABLE_KEYS:
        return f'--npu_option={text} cannot be set: {UNUSABLE_KEYS[key]}'
    return None


def _field_of_unknown(key: str, value: str) -> str:
    """Guesses the field of an unknown key from its value."""
    field = 's'
    if value.lower() in ('true', 'false'):
        field = 'b'
    elif re.fullmatch('-?[0-9]+', value):
        field = 'i'
    similar = difflib.get_close_matches(key, OPTIONS, 1, 0.8)
    logger.warning('--npu_option=%s: no known release of the adapter has this option, and releases '
                   'without it ignore it; it is passed on as %s%s', key,
                   {'b': 'a boolean', 'i': 'an integer', 's': 'a string'}[field],
                   f'; did you mean {similar[0]}?' if similar else '')
    return field


def _parse_value(text: str, field: str, value: str) -> Value:
    if field == 'b' and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if field == 'i':
        try:
            return int(value)
        except ValueError:
            pass
    if field == 's' and value:
        return _expanded(value)
    wanted = {'b': 'true or false', 'i': 'an integer', 's': 'a non-empty string'}[field]
    raise PSENetError(f'--npu_option={text} must have {wanted} as its value')


def validate(config: NpuConfig) -> None:
    """Rejects invalid settings before anything is started.

    Raises:
        PSENetError: the first fault found.
    """
    faults = _loss_faults(config) + _option_faults(config.options)
    if config.api == 'session':
        faults += _fed_faults(config.options)
    for fault in faults:
        raise PSENetError(fault)


def check_for_ranks(options: Dict[str, Value], world_size: int) -> None:
    """Rejects options that are not valid for the number of processes.

    Args:
        options: options that passed ``validate``.
        world_size: number of processes of the job.

    Raises:
        PSENetError: an option is not valid; the message names the flag.
    """
    if world_size == 1 and 'mstune_mode' in options:
        raise PSENetError('--npu_option=mstune_mode=... is for tuning on several NPUs, but this '
                          'process trains alone; use --npu_option=aoe_mode=...')
    if world_size > 1 and options.get('op_compiler_cache_mode') == 'force':
        raise PSENetError('--op_compiler_cache_mode=force clears the cache that other processes '
                          'of the job use; give enable')


def _loss_faults(config: NpuConfig) -> List[str]:
    faults = []
    if not 1 <= config.loss_scale < 2.0 ** 127:
        faults.append(f'--loss_scale={config.loss_scale:g} must be at least 1 and less than 2**127')
    if config.max_skipped_steps < 0:
        faults.append(f'--max_skipped_steps={config.max_skipped_steps} must be at least 0')
    if not config.max_loss > 0:
        faults.append(f'--max_loss={config.max_loss:g} must be a positive number')
    return faults


def _option_faults(options: Dict[str, Value]) -> List[str]:
    return _value_faults(options) + _partner_faults(options) + _conflicts(options)


def _fed_faults(options: Dict[str, Value]) -> List[str]:
    steps = options.get('iterations_per_loop', 1)
    return [] if steps == 1 else [
        f'--iterations_per_loop={steps} must be 1 if every step is fed; npu_train.py '
        '--api=estimator supports loops']


def _value_faults(options: Dict[str, Value]) -> List[str]:
    checked = ((key, value, OPTIONS[key].check(value)) for key, value in options.items()
               if key in OPTIONS and OPTIONS[key].check)
    return [f"--{'' if key in FLAGS else 'npu_option='}{key}={value} {fault}"
            for key, value, fault in checked if fault]


# Option -> options of which one is required as well; otherwise the adapter ignores it or aborts.
_PARTNERS = {
    'enable_dump': ('dump_path',), 'enable_dump_debug': ('dump_path',),
    'dump_path': ('enable_dump', 'enable_dump_debug'),
    'dump_step': ('enable_dump', 'enable_dump_debug'),
    'dump_mode': ('enable_dump', 'enable_dump_debug'),
    'dump_debug_mode': ('enable_dump_debug',),
    'profiling_options': ('profiling_mode',),
    'fp_point': ('profiling_mode',), 'bp_point': ('profiling_mode',),
    'optypelist_for_implmode': ('op_select_implmode',),
    'work_path': ('aoe_mode', 'mstune_mode'), 'mstune_mode': ('work_path',),
    'in_out_pair_flag': ('in_out_pair',),
    'dump_data': ('enable_dump',), 'dump_layer': ('enable_dump',),
}
_CONFLICTS = {
    ('precision_mode', 'precision_mode_v2'): 'they set the same thing',
    ('enable_compress_weight', 'compress_weight_conf'): 'the adapter aborts on both',
    ('auto_tune_mode', 'aoe_mode'): 'the adapter ignores the former beside the latter',
    ('auto_tune_mode', 'mstune_mode'): 'the adapter ignores the former beside the latter',
    ('aoe_mode', 'mstune_mode'): 'either is for releases that do not know the other',
}


def _given(options: Dict[str, Value], key: str) -> bool:
    return options.get(key, False) is not False


def _flag(key: str) -> str:
    return f'--{key}' if key in FLAGS else f'--npu_option={key}=...'


def _partner_faults(options: Dict[str, Value]) -> List[str]:
    faults = [f'{_flag(key)} has no effect without {" or ".join(map(_flag, partners))}; give both '
              'or neither'
              for key, partners in _PARTNERS.items()
              if _given(options, key) and not any(_given(options, one) for one in partners)]
    if _given(options, 'modify_mixlist') and not (
            str(options.get('precision_mode', '')).startswith('allow_mix_precision')
            or str(options.get('precision_mode_v2', '')).startswith('mixed_')):
        faults.append('--npu_option=modify_mixlist=... needs '
                      '--precision_mode=allow_mix_precision (later also _fp16, _bf16) or '
                      '--precision_mode_v2=mixed_...; give both or neither')
    mode = options.get('op_compiler_cache_mode')
    if _given(options, 'op_compiler_cache_dir') and mode not in ('enable', 'force'):
        faults.append('--op_compiler_cache_dir has no effect without '
                      '--op_compiler_cache_mode=enable or force; give both or neither')
    return faults


def _conflicts(options: Dict[str, Value]) -> List[str]:
    faults = [f'{_flag(one)} and {_flag(other)} cannot be given together: {why}'
              for (one, other), why in _CONFLICTS.items()
              if one in options and other in options]
    if options.get('mix_compile_mode') and options.get('iterations_per_loop', 1) != 1:
        faults.append('--npu_option=mix_compile_mode=true needs --iterations_per_loop=1')
    return faults


# Intervals that must be a multiple of the steps per loop on the device.
_INTERVALS = ('max_steps', 'save_checkpoint_steps', 'save_summary_steps')
_REFUSED = {
    'compress_weight_conf': 'NPUEstimator sets enable_compress_weight as well, and the adapter '
                            'aborts on both',
}
# They would make NPUEstimator join a cluster, or start from files other than those in the flags.
_DISTURBING = ('TF_CONFIG', 'LOCAL_CHECKPOINT_DIR', 'RESTORE_FROM')


class _Part(NamedTuple):
    """A nested configuration in a field of NPURunConfig.

    name: name of the class in npu_config.
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
    """Returns the number of steps per loop on the device."""
    return config.options.get('iterations_per_loop', 1)


def check_estimator(train: TrainConfig, npu: NpuConfig, world_size: int) -> None:
    """Rejects flags that are incompatible with ``--api=estimator``.

    Args:
        train: configuration of the run.
        npu: configuration of the NPU.
        world_size: number of processes of the job.

    Raises:
        PSENetError: the first fault found.
    """
    for fault in _loop_faults(train, npu) + _estimator_faults(npu, world_size):
        raise PSENetError(fault)


def _loop_faults(train: TrainConfig, npu: NpuConfig) -> List[str]:
    steps = iterations_per_loop(npu)
    faults = [f'--{name}={getattr(train, name)} must be a multiple of --iterations_per_loop={steps}'
              for name in _INTERVALS if getattr(train, name) % steps]
    if steps > 1 and 'aoe_mode' in npu.options:
        faults.append('--npu_option=aoe_mode=... needs --iterations_per_loop=1')
    return faults


def _estimator_faults(npu: NpuConfig, world_size: int) -> List[str]:
    faults = [f'{key} cannot be given with --api=estimator: {why}'
              for key, why in _REFUSED.items() if key in npu.options]
    if world_size > 1:
        faults.append(f'--api=estimator trains on one NPU, but the job has {world_size} ranks; '
                      'use --api=session for several')
    return faults


def prepare_environment(environment: MutableMapping[str, str]) -> None:
    """Checks the variables that NPUEstimator reads, and sets RANK_SIZE if it is missing.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Raises:
        PSENetError: a variable is missing or must not be set.
    """
    if not environment.get('JOB_ID'):
        raise PSENetError('JOB_ID must be set for --api=estimator, to any number; train_npu.sh '
                          'sets 10087')
    for name in _DISTURBING:
        if environment.get(name):
            raise PSENetError(f'{name}={environment[name]} would change what --api=estimator does; '
                              'unset it (--restore and --pretrained_model_path choose the initial '
                              'weights)')
    # Some releases of NPUEstimator fail without it, although the default is 1 elsewhere.
    if not (environment.get('RANK_SIZE') or environment.get('CM_WORKER_SIZE')):
        environment['RANK_SIZE'] = '1'


def make_run_config(npu_config: Any, options: Dict[str, Value], **fields: Any) -> Any:
    """Creates the NPURunConfig for the options.

    Args:
        npu_config: module npu_config of the adapter.
        options: NpuOptimizer key -> value.
        fields: further fields of NPURunConfig.

    Raises:
        PSENetError: the installed release does not support one of the options.
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
        # ProfilingConfig of release 1.1.1.
        arguments['enable_options'] = arguments.pop('profiling_options').split(':')
    with named_refusal(arguments, kind.__name__):
        return kind(**arguments)


@contextmanager
def named_refusal(options: Collection[str], refuser: str = 'NPUEstimator') -> Iterator[None]:
    """Turns errors of the adapter's constructors into a message that names the options.

    Args:
        options: keys of the given options, or names of arguments.
        refuser: name of the class.

    Raises:
        PSENetError: the constructor raised an error.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        named = [key for key in options if re.search(rf'\b{re.escape(key)}\b', str(error))]
        named = ', '.join(map(_flag, named or options))
        raise PSENetError('--api=estimator: %s of the installed adapter does not accept the given '
                          'options (%s)%s; remove it, or use --api=session'
                          % (refuser, first_line(error), f': {named}' if named else '')) from error
