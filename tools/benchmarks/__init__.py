"""The cases of the benchmark, a module each, and what they share.

A case is a module of this package that is named in CASES and has a function

    open_case(samples: Samples) -> ContextManager[Case]

which prepares what is measured, and cleans up after it. ``measure`` measures cases and words the
result; ``samples`` finds or draws images and ground truth; ``maps`` turns ground truth into what
the network would answer. A case is imported when it is asked for, so none of them pays for the
packages of another.
"""

import importlib
from typing import Callable, ContextManager

from tools.benchmarks.measure import Case
from tools.benchmarks.samples import Samples

CASES = ('pse', 'detect', 'scoring', 'reader', 'loop', 'eval', 'engines')


def find_case(name: str) -> Callable[[Samples], ContextManager[Case]]:
    """Imports a case.

    Args:
        name: one of CASES.

    Returns:
        The case's function open_case.
    """
    return importlib.import_module(f'{__name__}.{name}').open_case
