"""Cases eval (a directory of images through the steps of eval.py), engines and precisions.

The network runs on the CPU, as in eval.sh. eval and engines use the initial weights of training and
a threshold at which these find something; precisions uses the committed model. The baseline of eval
is the time of the network alone, that of engines TensorFlow with the checkpoint, that of precisions
ONNX Runtime in float32.
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
from inference.detector import Detector, NetworkInput, open_detector, prepare_image
from inference.folder import detect_folder, images_by_stem
from inference.networks import ScoreNetwork, open_network
from inference.onnx_networks import read_cpuinfo
from inference.postprocess import Thresholds
from inference.thresholds import read_thresholds
from tools.benchmarks.measure import Case, Sample, Target, timed_pass
from tools.benchmarks.samples import ROOT, Samples
from tools.exporting.quantization import LEAST_AGREEMENT, agreement, quantize
from utils.image_io import read_image
from utils.tf_env import configure_tensorflow

NUM_IMAGES = 20
SEG_MAP_THRESH = 0.5


@contextlib.contextmanager
def open_eval(samples: Samples) -> Iterator[Case]:
    """Writes a checkpoint, and starts the network from it."""
    images = dict(itertools.islice(images_by_stem(samples.test_dir).items(), NUM_IMAGES))
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        configure_tensorflow('')
        # Only now may TensorFlow start.
        from inference.networks import Network
        imported = time.perf_counter() - started
        from tools.benchmarks.stand_in import write_checkpoint
        write_checkpoint(directory)
        started = time.perf_counter()
        with Detector(Network(directory), DetectConfig(seg_map_thresh=SEG_MAP_THRESH)) as detector:
            run = _EvalRun(detector, images, directory, imported + time.perf_counter() - started)
            yield Case(f'{len(images)} images of {samples.name}', 'image', run.sample, passes=3,
                       warm_up=0, baseline='the network alone', targets=(Target('ratio', 1.05),),
                       figures=run.figures)


class _EvalRun:
    """Passes of the case eval, with the start-up time of the command."""

    def __init__(self, detector, images: Dict[str, str], directory: str, start_seconds: float):
        self._detector = detector
        self._images = images
        self._folder = directory
        self._start_seconds = start_seconds
        self._boxes = 0

    def sample(self) -> Sample:
        """Detects text in every image; the baseline is the time in session.run."""
        summary = detect_folder(self._detector, self._images, self._folder)
        self._boxes = summary.boxes
        return Sample(summary.total_seconds / summary.images, summary.net_seconds / summary.images)

    def figures(self) -> Dict[str, float]:
        """Returns boxes per image, and the seconds to load TensorFlow, the graph and weights."""
        return {'boxes_per_image': self._boxes / len(self._images),
                'start_up_s': self._start_seconds}


CHECKPOINT, FROZEN_GRAPH, ONNX = 'checkpoint', 'frozen_graph', 'onnx'


@contextlib.contextmanager
def open_engines(samples: Samples) -> Iterator[Case]:
    """Writes a checkpoint, exports it, and opens a network for each format."""
    path = next(iter(images_by_stem(samples.test_dir).values()))
    image = prepare_image(read_image(path), MAX_SIDE_LEN).image_rgb
    configure_tensorflow('')
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        networks = {}
        for name, config in _write_models(directory).items():
            networks[name] = open_network(config)
            stack.callback(networks[name].close)
        run = _EnginesRun(networks, image)
        yield Case(f'an image of {samples.name} at {image.shape[1]}x{image.shape[0]}', 'image',
                   run.sample, passes=5, baseline='TensorFlow with the checkpoint',
                   figures=run.figures)


PRECISIONS = {'onnx_int8': ('onnx', 'float32', 'int8'),
              'openvino_float32': ('openvino', 'float32', ''),
              'openvino_auto': ('openvino', 'auto', ''),
              'openvino_int8': ('openvino', 'float32', 'int8'),
              'openvino_int8_auto': ('openvino', 'auto', 'int8')}
_CALIBRATION_IMAGES = 12


@contextlib.contextmanager
def open_precisions(samples: Samples) -> Iterator[Case]:
    """Exports the committed model in float32 and int8, and opens it in each engine."""
    images = [read_image(path) for path in images_by_stem(samples.test_dir).values()]
    configure_tensorflow('')
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        detectors = {name: stack.enter_context(open_detector(config))
                     for name, config in _write_precisions(directory, samples).items()}
        run = _PrecisionsRun(detectors, images)
        size = run.prepare().image_rgb.shape
        yield Case(f'{samples.name} at {size[1]}x{size[0]}, on {_processor()}', 'image', run.sample,
                   passes=20, baseline='ONNX Runtime in float32',
                   targets=(Target('best_ratio', 0.45),), figures=run.figures)


def _write_precisions(directory: str, samples: Samples) -> Dict[str, DetectConfig]:
    # TensorFlow comes with them.
    from tools.exporting.formats import convert_to_onnx, freeze
    from training.checkpoints import resolve_checkpoint

    checkpoint = os.path.join(ROOT, 'checkpoint', 'icdar2015')
    thresholds = read_thresholds(checkpoint)
    model = convert_to_onnx(freeze(resolve_checkpoint(checkpoint)))
    paths = list(images_by_stem(samples.train_dir).values())
    inputs = (prepare_image(read_image(path), MAX_SIDE_LEN).image_rgb
              for path in paths[::max(1, len(paths) // _CALIBRATION_IMAGES)][:_CALIBRATION_IMAGES])
    files = {}
    for name, content in (('', model), ('int8', quantize(model, inputs))):
        files[name] = os.path.join(directory, f'psenet{name}.onnx')
        with open(files[name], 'wb') as file:
            file.write(content)
    base = DetectConfig(engine='onnx', model=files[''], **{
        name: thresholds[name] for name in Thresholds._fields})
    return {ONNX: base, **{
        name: base._replace(engine=engine, precision=precision, model=files[kind])
        for name, (engine, precision, kind) in PRECISIONS.items()}}


def _processor() -> str:
    """Returns the processor's name and its instruction sets for int8 and bfloat16."""
    known = {'avx512_vnni', 'avx_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16'}
    return ' '.join([read_cpuinfo('model name') or 'an unnamed processor',
                     *sorted(known & set(read_cpuinfo('flags').split()))])


class _PrecisionsRun:
    """Passes of the case precisions, one image each, and the boxes found."""

    def __init__(self, detectors: Dict[str, Detector], images: List[np.ndarray]):
        self._detectors = detectors
        self._images = images
        self._passes = 0
        self._ratios: Dict[str, List[float]] = {name: [] for name in PRECISIONS}
        self._boxes: Dict[str, Dict[str, np.ndarray]] = {name: {} for name in detectors}

    def prepare(self) -> NetworkInput:
        """Prepares the next image for the networks."""
        image = self._images[self._passes % len(self._images)]
        return self._detectors[ONNX].prepare(image)

    def sample(self) -> Sample:
        """Runs every network once; the measured time is that of the fastest."""
        prepared, seconds = self.prepare(), {}
        for name, detector in self._detectors.items():
            started = time.perf_counter()
            score_maps = detector.score_maps(prepared.image_rgb)
            seconds[name] = time.perf_counter() - started
            self._boxes[name][str(self._passes)] = detector.find_regions(
                score_maps, prepared.geometry).quads
        # The first pass is a warm-up.
        if self._passes:
            for name, ratios in self._ratios.items():
                ratios.append(seconds[name] / seconds[ONNX])
        self._passes += 1
        return Sample(min(seconds.values()), seconds[ONNX])

    def figures(self) -> Dict[str, float]:
        """Returns the ratio of each engine, and the Hmean of its boxes with the float model's."""
        figures, usable = {}, [1.0]
        for name, ratios in self._ratios.items():
            ratio = statistics.median(ratios)
            hmean = agreement(self._boxes[name], self._boxes[ONNX]).hmean
            figures[f'{name}_ratio'], figures[f'{name}_hmean'] = ratio, hmean
            if hmean >= LEAST_AGREEMENT:
                usable.append(ratio)
        return {**figures, 'best_ratio': min(usable)}


def _write_models(directory: str) -> Dict[str, DetectConfig]:
    # TensorFlow comes with them.
    from tools.benchmarks.stand_in import write_checkpoint
    from tools.exporting.formats import FORMATS, freeze

    prefix = write_checkpoint(directory)
    graph_def = freeze(prefix)
    configs = {CHECKPOINT: DetectConfig(checkpoint_path=prefix)}
    for name in (FROZEN_GRAPH, ONNX):
        form = FORMATS[name]
        model = os.path.join(directory, form.file)
        form.write(graph_def, model)
        configs[name] = DetectConfig(engine=form.engine, model=model)
    return configs


class _EnginesRun:
    """Passes of the case engines, with the times of the frozen graph."""

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
        """Returns the frozen graph's ratio to the same baseline."""
        return {'frozen_graph_ratio': statistics.median(self._frozen_ratios)}
