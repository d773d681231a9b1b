"""Case scoring: archives of ground truth and of results -> scores, within this process."""

import contextlib
import tempfile
import time
from typing import Iterator

from evaluation.script import score_archives
from inference.postprocess import Geometry, Thresholds, find_boxes
from inference.results import write_archive, write_result
from tools.benchmarks.measure import Case, Sample, Target, timed_pass
from tools.benchmarks.samples import Samples, as_scores, draw_scores, input_size

# 0.2 s for the 500 images of ICDAR2015's test set.
_MS_AN_IMAGE = 0.4


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Prepares the results of every image of the ground truth, as eval.py writes them."""
    with tempfile.TemporaryDirectory() as folder:
        count = _write_results(samples, folder)
        archive = write_archive(folder)

        def sample() -> Sample:
            return Sample(timed_pass(lambda path: score_archives(samples.gt_zip, path), [archive],
                                     clock=time.process_time) / count)

        yield Case(f'{count} images of {samples.name}', 'image', sample, passes=20,
                   targets=(Target('median_ms', _MS_AN_IMAGE),))


def _write_results(samples: Samples, folder: str) -> int:
    """Writes what is found in the score maps; returns the number of images."""
    geometry = Geometry(input_size(samples), samples.image_size)
    scores = draw_scores(samples)
    for image_id, quantised in scores.items():
        write_result(folder, f'img_{image_id}',
                     find_boxes(as_scores(quantised), geometry, Thresholds()))
    return len(scores)
