"""Case eval: a folder of images through eval.py's steps, against the network's part of that time.

The network runs on the CPU, as eval.sh has it. Its weights are those that training starts from, and
the threshold is one at which they find something.
"""

import contextlib
import itertools
import tempfile
import time
from typing import Dict, Iterator

from inference.config import DetectConfig
from inference.detector import Detector
from inference.folder import detect_folder, images_by_stem
from tools.benchmarks.measure import Case, Sample, Target
from tools.benchmarks.samples import Samples
from utils.tf_env import configure_tensorflow

NUM_IMAGES = 20
SEG_MAP_THRESH = 0.5


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Writes a checkpoint, and starts the network from it."""
    images = dict(itertools.islice(images_by_stem(samples.test_dir).items(), NUM_IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        configure_tensorflow('')
        # Only now may TensorFlow start.
        from inference.networks import Network
        imported = time.perf_counter() - started
        from tools.benchmarks.stand_in import write_checkpoint
        write_checkpoint(folder)
        started = time.perf_counter()
        with Detector(Network(folder), DetectConfig(seg_map_thresh=SEG_MAP_THRESH)) as detector:
            run = _Run(detector, images, folder, imported + time.perf_counter() - started)
            yield Case(f'{len(images)} images of {samples.name}', 'image', run.sample, passes=3,
                       warm_up=0, baseline='the network alone', targets=(Target('ratio', 1.05),),
                       figures=run.figures)


class _Run:
    """The passes, and what a command that makes one of them takes besides."""

    def __init__(self, detector, images: Dict[str, str], folder: str, start_seconds: float):
        self._detector = detector
        self._images = images
        self._folder = folder
        self._start_seconds = start_seconds
        self._boxes = 0

    def sample(self) -> Sample:
        """Detects in every image; the baseline is the time in session.run."""
        summary = detect_folder(self._detector, self._images, self._folder)
        self._boxes = summary.boxes
        return Sample(summary.total_seconds / summary.images, summary.net_seconds / summary.images)

    def figures(self) -> Dict[str, float]:
        """Boxes an image, and seconds until the first image: TensorFlow, the graph, the weights."""
        return {'boxes_per_image': self._boxes / len(self._images),
                'start_up_s': self._start_seconds}
