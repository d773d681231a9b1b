"""Cases reader (annotated images -> training batches) and loop (cost of the batch per step).

reader: two reader processes have at most two processors, so the ratio to decoding alone shows the
cost of everything else that is done to an image. Passes of the readers and of the baseline
alternate; the readers are idle while the baseline runs.

loop: a stand-in replaces the network. It takes the same inputs, returns the same outputs, and in
between leaves the processors to the readers, as an accelerator does. The wait for data is measured
as in training.
"""

import contextlib
import ctypes
import itertools
import os
import time
from typing import Dict, Iterator, List

import cv2
import numpy as np

from tools.benchmarks.measure import (
    Case,
    Sample,
    Target,
    children,
    cpu_seconds,
    resident_mb,
    timed_pass,
)
from tools.benchmarks.samples import Samples
from training.config import TrainConfig
from utils.data_provider.data_provider import Batches, get_batch
from utils.image_io import list_images
from utils.tf_env import configure_tensorflow

NUM_READERS = 2
INPUT_SIZE = 512
BATCH_SIZE = 14
BATCHES_A_PASS = 50
# 2,000 batches after 200 for warm-up; memory must not grow from there on.
_PASSES = 40
_WARM_UP = 4
# JPEGs that the baseline decodes, taken evenly from all images.
_DECODED = 100
# A later crop may be the largest so far; a leak of 200 bytes per sample would exceed this.
_GROWTH_MB = 5

# Parameters of mallopt(3), with the values that the readers use.
_THRESHOLDS = {-3: 2 ** 25, -1: 2 ** 27}


@contextlib.contextmanager
def open_reader(samples: Samples) -> Iterator[Case]:
    """Starts the readers on the samples' training images."""
    paths = list_images(samples.train_dir)
    jpegs = [np.fromfile(path, np.uint8) for path in paths[::-(-len(paths) // _DECODED)]]
    # Reuse the memory of decoded images, as the readers do; otherwise the baseline would spend
    # half of its time on page faults.
    libc = ctypes.CDLL(None)
    for parameter, value in _THRESHOLDS.items():
        libc.mallopt(parameter, value)
    before = set(children())
    with get_batch(samples.train_dir, NUM_READERS, INPUT_SIZE, BATCH_SIZE, seed=0) as batches:
        run = _ReaderRun(batches, sorted(set(children()) - before), jpegs)
        yield Case(f'{len(paths)} images of {samples.name}, {NUM_READERS} readers, batches of '
                   f'{BATCH_SIZE} at {INPUT_SIZE}', 'sample', run.sample, passes=_PASSES,
                   warm_up=_WARM_UP, baseline='cv2.imdecode', by_rate=True, figures=run.figures,
                   targets=(Target('ratio', 1.2, at_least=True), Target('growth_mb', _GROWTH_MB)))


class _ReaderRun:
    """Passes of the case reader, with processor time and memory recorded."""

    def __init__(self, batches: Batches, readers: List[int], jpegs: List[np.ndarray]):
        self._batches = batches
        self._readers = readers
        self._jpegs = jpegs
        self._cpu_ratios: List[float] = []
        self._resident: List[float] = []            # MB after each pass

    def sample(self) -> Sample:
        """Times some batches, then the decoding of every image."""
        # Skip the batches that were finished while the baseline ran.
        self._take(NUM_READERS)
        count = BATCHES_A_PASS * BATCH_SIZE
        began, cpu_began = time.perf_counter(), cpu_seconds(self._readers)
        self._take(BATCHES_A_PASS)
        seconds = (time.perf_counter() - began) / count
        cpu = (cpu_seconds(self._readers) - cpu_began) / count
        self._resident.append(resident_mb([os.getpid(), *self._readers]))
        # One untimed pass, during which each reader finishes its current batch.
        self._decode()
        cpu_began = time.process_time()
        baseline = self._decode()
        cpu_baseline = (time.process_time() - cpu_began) / len(self._jpegs)
        self._cpu_ratios.append(NUM_READERS * cpu_baseline / cpu)
        return Sample(seconds, baseline)

    def figures(self) -> Dict[str, float]:
        """Returns the ratio by processor time, and memory in MB."""
        settled = self._resident[_WARM_UP - 1:]
        return {'cpu_ratio': float(np.median(self._cpu_ratios[_WARM_UP:])),
                'resident_mb': settled[-1], 'growth_mb': max(settled) - settled[0],
                'batches': self._batches.next_batch}

    def _take(self, count: int) -> None:
        for _ in itertools.islice(self._batches, count):
            pass

    def _decode(self) -> float:
        return timed_pass(lambda jpeg: cv2.imdecode(jpeg, cv2.IMREAD_COLOR), self._jpegs)


CONFIG = TrainConfig(input_size=512, batch_size_per_gpu=14)
STEPS_A_PASS = 10
# Shorter than a ResNet-50 takes on any device for a batch of 14 at 512.
STEP_SECONDS = 0.2


@contextlib.contextmanager
def open_loop(samples: Samples) -> Iterator[Case]:
    """Starts the readers on the samples' training images, and a session."""
    configure_tensorflow('')
    # Only now may TensorFlow start.
    from tools.benchmarks.stand_in import build_stand_in
    config = CONFIG._replace(training_data_path=samples.train_dir)
    with get_batch(samples.train_dir, NUM_READERS, config.input_size, config.batch_size_per_gpu,
                   seed=0) as batches:
        stand_in = build_stand_in(config, STEP_SECONDS)
        run = _LoopRun(batches, stand_in)
        yield Case(f'batches of {config.batch_size_per_gpu} at {config.input_size} from '
                   f'{samples.name}, {NUM_READERS} readers, a stand-in of {STEP_SECONDS:g} s for '
                   'the network', 'step', run.sample, passes=10,
                   baseline='the step with its inputs there', figures=run.figures,
                   targets=(Target('handed_over_mb', 13), Target('data_wait_percent', 1)))
        stand_in.close()


class _LoopRun:
    """Passes of the case loop, with the waits recorded."""

    def __init__(self, batches: Batches, stand_in):
        self._batches = batches
        self._stand_in = stand_in
        self._waits: List[float] = []
        self._steps: List[float] = []
        self._there: List[float] = []
        self._handed_over = 0

    def sample(self) -> Sample:
        """Times some steps with fed inputs, then as many with their inputs on the device."""
        steps = [self._fed_step() for _ in range(STEPS_A_PASS)]
        there = [self._step_there() for _ in range(STEPS_A_PASS)]
        self._steps += steps
        self._there += there
        return Sample(float(np.mean(steps)), float(np.mean(there)))

    def figures(self) -> Dict[str, float]:
        """Returns MB (10^6 bytes) per step, and the times spent waiting and feeding."""
        return {'handed_over_mb': self._handed_over / 1e6,
                'data_wait_percent': 100 * sum(self._waits) / sum(self._steps),
                'wait_ms': 1000 * float(np.median(self._waits)),
                'feed_ms': 1000 * float(np.median(self._steps) - np.median(self._waits)
                                        - np.median(self._there))}

    def _fed_step(self) -> float:
        began = time.perf_counter()
        images, _, seg_maps, training_masks = next(self._batches)
        self._waits.append(time.perf_counter() - began)
        arrays = (images, seg_maps, training_masks)
        self._stand_in.fed(arrays)
        self._handed_over = sum(array.nbytes for array in arrays)
        return time.perf_counter() - began

    def _step_there(self) -> float:
        began = time.perf_counter()
        self._stand_in.there()
        return time.perf_counter() - began
