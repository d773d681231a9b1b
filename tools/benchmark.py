"""Measures parts of the system, each against a yardstick measured in the same run.

    make bench                                  every case
    python tools/benchmark.py --case=pse        one case, or several separated by commas
    python tools/benchmark.py --json            one line of JSON a case, for programs

A sample is one pass over all maps of a case, divided by their number. The yardstick is
cv2.connectedComponents on the smallest kernels, the least that any expansion has to do; passes of
the case and of the yardstick alternate, so that whatever else the machine does meets both.
"""

import json
import os
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
from absl import flags

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from inference.postprocess import detect
from pse import pse
from utils import cli
from utils.errors import PSENetError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, 'tests', 'data')
YARDSTICK = 'cv2.connectedComponents'


class Case(NamedTuple):
    """Something to measure.

    Attributes:
        inputs: one element for each map.
        work: what is measured; takes an element of inputs.
        smallest_kernels: uint8 (H, W) for each map, what the yardstick works on.
    """

    inputs: List
    work: Callable
    smallest_kernels: List[np.ndarray]


class Measurement(NamedTuple):
    """What a case took, in milliseconds a map: median, 10th and 90th percentile; and the ratio."""

    case: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    maps_per_second: float
    yardstick_ms: float
    ratio: float


def pse_case() -> Case:
    """Kernels -> labels, on the kernels of tests/data/reference_pse.npz."""
    with np.load(os.path.join(FIXTURES, 'reference_pse.npz')) as data:
        shape = tuple(data['shape'])
        kernels = np.unpackbits(data['kernels'])[:np.prod(shape)].reshape(shape)
        inputs = list(zip(kernels, data['min_area'].tolist()))
    return Case(inputs, lambda each: pse(*each), [maps[-1] for maps in kernels])


def detect_case() -> Case:
    """Score maps -> quads, on the score maps of tests/data/reference_detect.npz."""
    with np.load(os.path.join(FIXTURES, 'reference_detect.npz')) as data:
        scores = data['scores_q'].astype(np.float32) / 255
        size = tuple(data['image_size'].tolist())
        inputs = [(maps, size, thresh, area) for maps, thresh, area in
                  zip(scores, data['thresh'].tolist(), data['min_area'].tolist())]
    smallest = [(maps[:, :, 0] > thresh).astype(np.uint8) for maps, _, thresh, _ in inputs]
    return Case(inputs, lambda each: detect(*each), smallest)


CASES: Dict[str, Callable[[], Case]] = {'pse': pse_case, 'detect': detect_case}


def measure(name: str, case: Case, passes: int) -> Measurement:
    """Measures a case.

    Args:
        name: of the case.
        case: what to measure.
        passes: number of samples, at least 1; two more passes warm up.

    Returns:
        The measurement.
    """
    samples = np.array([_sample(case) for _ in range(passes + 2)][2:]) * 1000
    median, yardstick = np.median(samples, axis=0)
    low, high = np.percentile(samples[:, 0], [10, 90])
    return Measurement(name, median, low, high, 1000 / median, yardstick, median / yardstick)


def _sample(case: Case) -> Tuple[float, float]:
    """Seconds a map of the work and of the yardstick."""
    def yardstick(kernel: np.ndarray) -> None:
        cv2.connectedComponents(kernel, connectivity=4)
    return _pass_time(case.work, case.inputs), _pass_time(yardstick, case.smallest_kernels)


def _pass_time(work: Callable, inputs: List) -> float:
    start = time.perf_counter()
    for each in inputs:
        work(each)
    return (time.perf_counter() - start) / len(inputs)


def describe(result: Measurement) -> str:
    """Formats a measurement as a line for people."""
    return (f'{result.case:8} {result.median_ms:7.3f} ms a map '
            f'({result.p10_ms:.3f} to {result.p90_ms:.3f}), {result.maps_per_second:6.0f} maps/s, '
            f'{result.ratio:5.2f}x {YARDSTICK} ({result.yardstick_ms:.3f} ms)')


def define_benchmark_flags() -> None:
    """Defines the flags of this command (absl; call once, in an entry script)."""
    group = cli.group('benchmark')
    flags.DEFINE_list('case', sorted(CASES), 'Cases to measure, separated by commas.', **group)
    flags.DEFINE_integer('passes', 200, 'Passes over the maps of a case.', lower_bound=1, **group)
    flags.DEFINE_boolean('json', False, 'Print one line of JSON a case.', **group)


def main(_: List[str]) -> None:
    """Measures the cases that the flags name and prints a line for each."""
    values = flags.FLAGS
    unknown = sorted(set(values.case) - set(CASES))
    if unknown:
        raise PSENetError(f'--case={unknown[0]} is unknown; there are {", ".join(sorted(CASES))}')
    cv2.setNumThreads(1)
    for name in values.case:
        result = measure(name, CASES[name](), values.passes)
        print(json.dumps(result._asdict()) if values.json else describe(result), flush=True)


if __name__ == '__main__':
    define_benchmark_flags()
    cli.run(main, __doc__)
