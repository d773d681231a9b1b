"""Benchmark cases and their shared helpers.

``CASES`` maps each case to a module of this package, whose function ``open_<case>`` takes
``Samples`` and is a context manager that prepares the ``Case`` and cleans up after it. ``measure``
runs cases and formats results; ``samples`` finds or draws images, ground truth and score maps. A
case is imported on demand and does not load the packages of the others.
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
