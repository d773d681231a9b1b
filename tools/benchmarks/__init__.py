"""The cases of the benchmark, and what they share.

``CASES`` names a function of a module of this package for each, which takes ``Samples`` and is a
context manager that prepares the ``Case`` and cleans up after it. ``measure`` measures cases and
words the result; ``samples`` finds or draws images, ground truth and score maps. A case is imported
when it is asked for, so none of them pays for the packages of another.
"""

import importlib
from typing import Callable, ContextManager

from tools.benchmarks.measure import Case
from tools.benchmarks.samples import Samples

CASES = {'pse': 'maps', 'detect': 'maps', 'polygons': 'maps', 'scoring': 'maps',
         'reader': 'batches', 'loop': 'batches', 'eval': 'networks', 'engines': 'networks',
         'precisions': 'networks'}


def find_case(name: str) -> Callable[[Samples], ContextManager[Case]]:
    """Imports the function of a case, one of CASES."""
    return getattr(importlib.import_module(f'{__name__}.{CASES[name]}'), f'open_{name}')
