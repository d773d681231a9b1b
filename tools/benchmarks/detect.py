"""Case detect: score maps -> quads."""

import contextlib
from typing import Iterator

import numpy as np

from inference.postprocess import detect
from tools.benchmarks import maps
from tools.benchmarks.measure import Case, Sample, timed_pass
from tools.benchmarks.samples import Samples

_THRESHOLD = 0.9
# Maps to work on in all; few maps get many passes.
_MAPS = 10000


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Prepares score maps of the ground truth; each is made anew right before it is worked on."""
    size = maps.input_size(samples)
    quantised = list(maps.draw_scores(samples).values())
    smallest = [(maps.as_scores(each)[:, :, 0] > _THRESHOLD).astype(np.uint8)
                for each in quantised]

    def sample() -> Sample:
        return Sample(timed_pass(lambda scores: detect(scores, size, _THRESHOLD), quantised,
                                 prepare=maps.as_scores),
                      timed_pass(maps.label_smallest, smallest))

    yield Case(f'{len(quantised)} maps of {samples.name}', 'map', sample,
               passes=-(-_MAPS // len(quantised)), yardstick=maps.YARDSTICK,
               targets=maps.ratio_target(samples, 5))
