"""Strict reading of a session's configuration; NPU.md, sections 5, 5.1 and 5.4.

The adapter reads each key from one field of the oneof and takes the default when another is set,
ignores keys that it does not know, and takes an empty entry for an empty value. All of that is an
error here.
"""

import json
import os
from typing import Any, Dict, Iterator

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from fake_npu.refusal import refuse, refuse_first
from fake_npu.release import release
from fake_npu.value_rules import value_faults

NAME = 'NpuOptimizer'
_TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'parameter_map.json')
# Set by NPUEstimator, read by nothing.
_ESTIMATOR_KEYS = {'min_group_size': 'b', 'enable_reduce_precision': 'b'}


def known_keys(of_estimator: bool = False) -> Dict[str, str]:
    """Key -> field of the oneof (b, i or s), for the release."""
    with open(_TABLE, encoding='utf-8') as file:
        keys = json.load(file)[release()]
    return dict(keys, **_ESTIMATOR_KEYS) if of_estimator else keys


def check_config(config: tf.ConfigProto, of_estimator: bool = False) -> Dict[str, Any]:
    """Reads the parameters of the one NpuOptimizer.

    Args:
        config: a session's; None where it was made without one.
        of_estimator: whether NPUEstimator made it, which sets keys that scripts must not.

    Returns:
        Key -> bool, int or str.

    Raises:
        AssertionError: the adapter would not do what the configuration says.
    """
    rewrite = (config or tf.ConfigProto()).graph_options.rewrite_options
    entries = [entry for entry in rewrite.custom_optimizers if entry.name == NAME]
    if len(entries) != 1:
        refuse(f'a session has {len(entries)} custom optimizers named {NAME} (all: '
               f'{[entry.name for entry in rewrite.custom_optimizers]}); it needs exactly one')
    if not of_estimator:
        refuse_first(_toggle_faults(rewrite))
    refuse_first(_entry_faults(entries[0].parameter_map, of_estimator))
    values = {key: _value(entry) for key, entry in entries[0].parameter_map.items()}
    refuse_first(value_faults(values, of_estimator))
    return values


def _toggle_faults(rewrite: RewriterConfig) -> Iterator[str]:
    if rewrite.remapping != RewriterConfig.OFF:
        yield 'remapping is not OFF: Conv2D may become _FusedConv2D, which is not offloaded'
    # OFF is 2, which is MANUAL in this enumeration, and serves as well.
    if rewrite.memory_optimization not in (RewriterConfig.OFF, RewriterConfig.NO_MEM_OPT):
        yield 'memory_optimization is not OFF'


def _entry_faults(parameter_map, of_estimator: bool) -> Iterator[str]:
    fields = known_keys(of_estimator)
    for key, entry in parameter_map.items():
        field = entry.WhichOneof('value')
        if key not in fields:
            yield f'parameter_map[{key}] is unknown to this release, which ignores it'
        elif field is None:
            yield f'parameter_map[{key}] is empty: it was read, or never filled'
        elif field != fields[key]:
            yield (f'parameter_map[{key}].{field} is set, and the adapter reads .{fields[key]}: it '
                   'takes the default')
        elif field == 's' and not entry.s:
            yield f'parameter_map[{key}].s is the empty string'


def _value(entry) -> Any:
    value = getattr(entry, entry.WhichOneof('value'))
    return value.decode('utf-8') if isinstance(value, bytes) else value
