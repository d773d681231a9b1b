"""Case pse: kernels -> labels."""

import contextlib
from typing import Iterator

import numpy as np

from pse import pse
from tools.benchmarks.measure import Case, Sample, timed_pass
from tools.benchmarks.samples import BASELINE, Samples, draw_kernels, label_smallest, ratio_target

_MIN_AREA = 6
# Maps to work on in all; few maps get many passes.
_MAPS = 20000


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Prepares kernels of the ground truth, largest first as the expansion takes them."""
    drawn = draw_kernels(samples).values()
    kernels = [np.ascontiguousarray(each[::-1]) for each in drawn]
    smallest = [each[0] for each in drawn]

    def sample() -> Sample:
        return Sample(timed_pass(lambda each: pse(each, _MIN_AREA), kernels),
                      timed_pass(label_smallest, smallest))

    yield Case(f'{len(kernels)} maps of {samples.name}', 'map', sample,
               passes=-(-_MAPS // len(kernels)), baseline=BASELINE,
               targets=ratio_target(samples, 1.5))
