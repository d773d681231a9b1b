"""Case engines: the network in ONNX Runtime, against TensorFlow with the checkpoint.

All run on the CPU, one after the other in each pass, on one image. The weights are those that
training starts from. The exported models lie on the disk as long as the case is open.
"""

import contextlib
import os
import statistics
import tempfile
from typing import Dict, Iterator, List

import numpy as np

from inference.config import MAX_SIDE_LEN, DetectConfig
from inference.detector import prepare_image
from inference.folder import images_by_stem
from inference.networks import ScoreNetwork, open_network
from tools.benchmarks.measure import Case, Sample, timed_pass
from tools.benchmarks.samples import Samples
from utils.image_io import read_image
from utils.tf_env import configure_tensorflow

CHECKPOINT, FROZEN_GRAPH, ONNX = 'checkpoint', 'frozen_graph', 'onnx'


@contextlib.contextmanager
def open_case(samples: Samples) -> Iterator[Case]:
    """Writes a checkpoint, exports it, and opens a network of each form."""
    path = next(iter(images_by_stem(samples.test_dir).values()))
    image = prepare_image(read_image(path), MAX_SIDE_LEN).image_rgb
    configure_tensorflow('')
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        networks = {}
        for name, config in _write_models(folder).items():
            networks[name] = open_network(config)
            stack.callback(networks[name].close)
        run = _Run(networks, image)
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


class _Run:
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
