"""Case loop: what a training step pays for its batch, against a step whose inputs are there.

The network is stood in for by a step that takes the same inputs and gives the same outputs and, in
between, leaves the processors to the readers, as a device does that computes by itself: the time of
the network says nothing about what surrounds it. The wait for data is timed as training times it.
"""

import contextlib
import time
from typing import Dict, Iterator, List

import numpy as np

from tools.benchmarks.measure import Case, Sample, Target
from tools.benchmarks.samples import Samples
from training.config import TrainConfig
from utils.data_provider.data_provider import Batches, get_batch
from utils.tf_env import configure_tensorflow

NUM_READERS = 2
CONFIG = TrainConfig(input_size=512, batch_size_per_gpu=14)
STEPS_A_PASS = 10
# A ResNet-50 takes longer on any device for a batch of 14 at 512.
STEP_SECONDS = 0.2


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Starts the readers on the samples' training images, and a session."""
    configure_tensorflow('')
    # Only now may TensorFlow start.
    from tools.benchmarks.stand_in import build_stand_in
    config = CONFIG._replace(training_data_path=samples.train_dir)
    with get_batch(samples.train_dir, NUM_READERS, config.input_size, config.batch_size_per_gpu,
                   seed=0) as batches:
        stand_in = build_stand_in(config, STEP_SECONDS)
        run = _Run(batches, stand_in)
        yield Case(f'batches of {config.batch_size_per_gpu} at {config.input_size} from '
                   f'{samples.name}, {NUM_READERS} readers, a stand-in of {STEP_SECONDS:g} s for '
                   'the network', 'step', run.sample, passes=10,
                   baseline='the step with its inputs there', figures=run.figures,
                   targets=(Target('handed_over_mb', 13), Target('data_wait_percent', 1)))
        stand_in.close()


class _Run:
    """The passes, and what is noted on the way."""

    def __init__(self, batches: Batches, stand_in):
        self._batches = batches
        self._stand_in = stand_in
        self._waits: List[float] = []
        self._steps: List[float] = []
        self._there: List[float] = []
        self._handed_over = 0

    def sample(self) -> Sample:
        """Times some steps with a feed, then as many with their inputs there."""
        steps = [self._fed_step() for _ in range(STEPS_A_PASS)]
        there = [self._step_there() for _ in range(STEPS_A_PASS)]
        self._steps += steps
        self._there += there
        return Sample(float(np.mean(steps)), float(np.mean(there)))

    def figures(self) -> Dict[str, float]:
        """MB (10^6 bytes) a step, and what of a step goes into waiting and feeding."""
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
