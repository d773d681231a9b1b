"""The record of a process: JSON lines appended to the file that FAKE_NPU_RECORD names.

Events: ``session`` (its configuration), ``run`` (once for each distinct pair of fetches and feeds),
``warning`` (what the adapter only warns of), ``overflow`` (an injected one), ``variables`` (what
they hold after a run of nothing but broadcasts).
"""

import json
import os
from typing import Any

VARIABLE = 'FAKE_NPU_RECORD'


def wanted() -> bool:
    """Whether there is a record to write to."""
    return bool(os.environ.get(VARIABLE))


def write(event: str, **fields: Any) -> None:
    """Appends an event; does nothing when nobody asked for a record."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = dict(event=event, pid=os.getpid(), rank=os.environ.get('RANK_ID', ''), **fields)
    with open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(line, sort_keys=True) + '\n')
