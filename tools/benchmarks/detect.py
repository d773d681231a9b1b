"""Case detect: score maps -> quads."""

import contextlib
from typing import Iterator

import numpy as np

from inference.postprocess import detect
from tools.benchmarks.measure import Case, Sample, timed_pass
from tools.benchmarks.samples import (
    BASELINE,
    Samples,
    as_scores,
    draw_scores,
    input_size,
    label_smallest,
    ratio_target,
)

_THRESHOLD = 0.9
# Maps to work on in all; few maps get many passes.
_MAPS = 10000


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Prepares score maps of the ground truth; each is made anew right before it is worked on."""
    size = input_size(samples)
    quantised = list(draw_scores(samples).values())
    smallest = [(as_scores(each)[:, :, 0] > _THRESHOLD).astype(np.uint8)
                for each in quantised]

    def sample() -> Sample:
        return Sample(timed_pass(lambda scores: detect(scores, size, _THRESHOLD), quantised,
                                 prepare=as_scores),
                      timed_pass(label_smallest, smallest))

    yield Case(f'{len(quantised)} maps of {samples.name}', 'map', sample,
               passes=-(-_MAPS // len(quantised)), baseline=BASELINE,
               targets=ratio_target(samples, 5))
