"""Measures parts of the system, each against a baseline measured in the same run.

    make bench                                  every case
    python -m tools.benchmark --case=pse        one case, or several separated by commas
    python -m tools.benchmark --json            one line of JSON per case

Each line shows the median time per unit of work with its 10th and 90th percentile, the rate, the
ratio to the baseline, whether the target is met, and the data: ICDAR2015 images if they are in
../shared/data/icdar2015, otherwise synthetic ones. docs/performance.md explains the cases.
"""

import json
from typing import List

import cv2
from absl import flags

from tools.benchmarks import CASES, find_case
from tools.benchmarks.measure import describe, measure
from tools.benchmarks.samples import open_samples
from utils import cli
from utils.errors import PSENetError


def define_benchmark_flags() -> None:
    """Defines the flags of this command (absl; call once, in an entry script)."""
    group = cli.group('benchmark')
    flags.DEFINE_list('case', list(CASES), 'Cases to measure, separated by commas.', **group)
    flags.DEFINE_integer('passes', None, 'Passes over the data of a case; by default each case '
                         'has its own number.', lower_bound=1, **group)
    cli.define_path('samples', None, 'Directory with train, test and gt.zip in the format of '
                    'ICDAR2015, to measure on these.', **group)
    flags.DEFINE_boolean('json', False, 'Print one line of JSON per case.', **group)


def main(_: List[str]) -> None:
    """Measures the cases that the flags name and prints a line for each."""
    values = flags.FLAGS
    unknown = [name for name in values.case if name not in CASES]
    if unknown:
        raise PSENetError(f'--case={unknown[0]} is unknown; there are {", ".join(CASES)}')
    # The work and its baseline then use the same number of threads on any machine.
    cv2.setNumThreads(1)
    with open_samples(values.samples) as samples:
        for name in values.case:
            with find_case(name)(samples) as case:
                result = measure(name, case, values.passes)
            print(json.dumps(result._asdict()) if values.json else describe(result), flush=True)


if __name__ == '__main__':
    define_benchmark_flags()
    cli.run(main, __doc__)
