"""Which ops a session.run executes."""

from typing import Dict, FrozenSet, Iterable, Tuple

import tensorflow as tf

_cache: Dict[Tuple, FrozenSet[tf.Operation]] = {}


def reached_ops(fetched: Iterable[tf.Operation], fed: Iterable[tf.Operation]
                ) -> FrozenSet[tf.Operation]:
    """The fetched ops and all that they depend on, by data or by order, up to what is fed."""
    key = (frozenset(fetched), frozenset(fed))
    if key not in _cache:
        _cache[key] = _walk(*key)
    return _cache[key]


def _walk(fetched: FrozenSet[tf.Operation], fed: FrozenSet[tf.Operation]
          ) -> FrozenSet[tf.Operation]:
    reached, waiting = set(fetched), list(fetched)
    while waiting:
        op = waiting.pop()
        if op in fed:
            continue
        sources = {tensor.op for tensor in op.inputs} | set(op.control_inputs)
        waiting.extend(sources - reached)
        reached |= sources
    return frozenset(reached)
