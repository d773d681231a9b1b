"""Cases eval (a directory of images through eval.py's steps) and engines (ONNX Runtime).

The network runs on the CPU, as eval.sh has it. Its weights are those that training starts from, and
the threshold is one at which they find something. The baseline of eval is the network's part of the
time, that of engines TensorFlow with the checkpoint.
"""

import contextlib
import itertools
import os
import statistics
import tempfile
import time
from typing import Dict, Iterator, List

import numpy as np

from inference.config import MAX_SIDE_LEN, DetectConfig
from inference.detector import Detector, prepare_image
from inference.folder import detect_folder, images_by_stem
from inference.networks import ScoreNetwork, open_network
from tools.benchmarks.measure import Case, Sample, Target, timed_pass
from tools.benchmarks.samples import Samples
from utils.image_io import read_image
from utils.tf_env import configure_tensorflow

NUM_IMAGES = 20
SEG_MAP_THRESH = 0.5


@contextlib.contextmanager
def open_eval(samples: Samples) -> Iterator[Case]:
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
            run = _EvalRun(detector, images, folder, imported + time.perf_counter() - started)
            yield Case(f'{len(images)} images of {samples.name}', 'image', run.sample, passes=3,
                       warm_up=0, baseline='the network alone', targets=(Target('ratio', 1.05),),
                       figures=run.figures)


class _EvalRun:
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


CHECKPOINT, FROZEN_GRAPH, ONNX = 'checkpoint', 'frozen_graph', 'onnx'


@contextlib.contextmanager
def open_engines(samples: Samples) -> Iterator[Case]:
    """Writes a checkpoint, exports it, and opens a network of each form."""
    path = next(iter(images_by_stem(samples.test_dir).values()))
    image = prepare_image(read_image(path), MAX_SIDE_LEN).image_rgb
    configure_tensorflow('')
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        networks = {}
        for name, config in _write_models(folder).items():
            networks[name] = open_network(config)
            stack.callback(networks[name].close)
        run = _EnginesRun(networks, image)
        yield Case(f'an image of {samples.name} at {image.shape[1]}x{image.shape[0]}', 'image',
                   run.sample, passes=5, baseline='TensorFlow with the checkpoint',
                   figures=run.figures)


def _write_models(folder: str) -> Dict[str, DetectConfig]:
    # TensorFlow comes with them.
    from tools.benchmarks.stand_in import write_checkpoint
    from tools.exporting.formats import FORMATS, freeze

    prefix = write_checkpoint(folder)
    graph_def = freeze(prefix)
    configs = {CHECKPOINT: DetectConfig(checkpoint_path=prefix)}
    for name in (FROZEN_GRAPH, ONNX):
        form = FORMATS[name]
        model = os.path.join(folder, form.file)
        form.write(graph_def, model)
        configs[name] = DetectConfig(engine=form.engine, model=model)
    return configs


class _EnginesRun:
    """The passes, and what the frozen graph took in them."""

    def __init__(self, networks: Dict[str, ScoreNetwork], image_rgb: np.ndarray):
        self._networks = networks
        self._image = image_rgb
        self._frozen_ratios: List[float] = []

    def sample(self) -> Sample:
        """Runs every network once."""
        seconds = {name: timed_pass(network.score_maps, [self._image])
                   for name, network in self._networks.items()}
        self._frozen_ratios.append(seconds[FROZEN_GRAPH] / seconds[CHECKPOINT])
        return Sample(seconds[ONNX], seconds[CHECKPOINT])

    def figures(self) -> Dict[str, float]:
        """The frozen graph's ratio to the same baseline."""
        return {'frozen_graph_ratio': statistics.median(self._frozen_ratios)}
