"""Measures parts of the system, each against a baseline measured in the same run.

    make bench                                  every case
    python -m tools.benchmark --case=pse        one case, or several separated by commas
    python -m tools.benchmark --json            one line of JSON a case, for programs

A line shows the median time of a unit of work with its 10th and 90th percentile, the rate, the
ratio to the baseline, whether the target is met, and what data were worked on: real ICDAR2015
samples where they are beside the project, in ../shared/data/icdar2015, and images drawn for it
where they are not. docs/performance.md explains the cases.
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
    flags.DEFINE_integer('passes', None, 'Passes over the data of a case; each case has a number '
                         'of its own where not given.', lower_bound=1, **group)
    cli.define_path('samples', None, 'Folder with train, test and gt.zip in the form of '
                    'ICDAR2015, to measure on these.', **group)
    flags.DEFINE_boolean('json', False, 'Print one line of JSON a case.', **group)


def main(_: List[str]) -> None:
    """Measures the cases that the flags name and prints a line for each."""
    values = flags.FLAGS
    unknown = [name for name in values.case if name not in CASES]
    if unknown:
        raise PSENetError(f'--case={unknown[0]} is unknown; there are {", ".join(CASES)}')
    # So that work and baseline have the same means, whatever the machine.
    cv2.setNumThreads(1)
    with open_samples(values.samples) as samples:
        for name in values.case:
            with find_case(name)(samples) as case:
                result = measure(name, case, values.passes)
            print(json.dumps(result._asdict()) if values.json else describe(result), flush=True)


if __name__ == '__main__':
    define_benchmark_flags()
    cli.run(main, __doc__)
