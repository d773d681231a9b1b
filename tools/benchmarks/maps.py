"""Cases pse (kernels -> labels), detect and polygons (score maps -> regions), and scoring."""

import contextlib
import tempfile
import time
from typing import Iterator

import cv2
import numpy as np

from evaluation.script import score_archives
from inference.postprocess import Geometry, Thresholds, detect, find_boxes, find_polygons
from inference.results import write_archive, write_result
from pse import pse
from tools.benchmarks.measure import Case, Sample, Target, timed_pass
from tools.benchmarks.samples import (
    ICDAR,
    Samples,
    as_scores,
    draw_kernels,
    draw_scores,
    input_size,
)

_THRESHOLDS = Thresholds()
# Maps processed in total; with fewer maps there are more passes.
_KERNEL_MAPS, _SCORE_MAPS, _POLYGON_MAPS = 20000, 10000, 4000
# 0.2 s for the 500 images of ICDAR2015's test set.
_SCORING_MS_AN_IMAGE = 0.4


@contextlib.contextmanager
def open_pse(samples: Samples) -> Iterator[Case]:
    """Prepares kernels of the ground truth, largest first, as the expansion expects them."""
    drawn = draw_kernels(samples).values()
    kernels = [np.ascontiguousarray(each[::-1]) for each in drawn]
    smallest = [each[0] for each in drawn]

    def sample() -> Sample:
        return Sample(timed_pass(lambda each: pse(each, _THRESHOLDS.min_area_thresh), kernels),
                      timed_pass(_label, smallest))

    yield _against_labelling(samples, sample, len(kernels), _KERNEL_MAPS, 1.5)


@contextlib.contextmanager
def open_detect(samples: Samples) -> Iterator[Case]:
    """Prepares score maps of the ground truth; each is restored right before it is used."""
    size = input_size(samples)
    quantised = list(draw_scores(samples).values())
    smallest = [(as_scores(each)[:, :, 0] > _THRESHOLDS.seg_map_thresh).astype(np.uint8)
                for each in quantised]

    def sample() -> Sample:
        return Sample(timed_pass(lambda scores: detect(scores, size), quantised, as_scores),
                      timed_pass(_label, smallest))

    yield _against_labelling(samples, sample, len(quantised), _SCORE_MAPS, 5)


def _label(kernel: np.ndarray) -> None:
    """Baseline: labels the smallest kernel, uint8 (h, w), the minimum that expansion has to do."""
    cv2.connectedComponents(kernel, connectivity=4)


def _against_labelling(samples: Samples, sample, count: int, maps: int, limit: float) -> Case:
    # The target is for ICDAR2015 only: expansion scales with the text and the baseline with the
    # map, and a fifth of the demo's images is text, ten times as much.
    targets = (Target('ratio', limit),) if samples.name == ICDAR else ()
    return Case(f'{count} maps of {samples.name}', 'map', sample, passes=-(-maps // count),
                baseline='cv2.connectedComponents', targets=targets)


@contextlib.contextmanager
def open_polygons(samples: Samples) -> Iterator[Case]:
    """Prepares score maps of the ground truth, to compare outlines with rectangles."""
    geometry = Geometry(input_size(samples), samples.image_size)
    quantised = list(draw_scores(samples).values())

    def sample() -> Sample:
        return Sample(*(timed_pass(lambda scores, find=find: find(scores, geometry, _THRESHOLDS),
                                   quantised, as_scores) for find in (find_polygons, find_boxes)))

    yield Case(f'{len(quantised)} maps of {samples.name}', 'map', sample,
               passes=-(-_POLYGON_MAPS // len(quantised)), baseline='quadrilaterals',
               targets=(Target('ratio', 2),))


@contextlib.contextmanager
def open_scoring(samples: Samples) -> Iterator[Case]:
    """Prepares the results of every image of the ground truth, as eval.py writes them."""
    geometry = Geometry(input_size(samples), samples.image_size)
    scores = draw_scores(samples)
    with tempfile.TemporaryDirectory() as directory:
        for image_id, quantised in scores.items():
            write_result(directory, f'img_{image_id}',
                         find_boxes(as_scores(quantised), geometry, _THRESHOLDS))
        archive = write_archive(directory)

        def sample() -> Sample:
            return Sample(timed_pass(lambda path: score_archives(samples.gt_zip, path), [archive],
                                     clock=time.process_time) / len(scores))

        yield Case(f'{len(scores)} images of {samples.name}', 'image', sample, passes=20,
                   targets=(Target('median_ms', _SCORING_MS_AN_IMAGE),))
