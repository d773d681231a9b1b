"""The network in eight bits: calibrated on images, and held against the floats' own boxes.

Static quantization of ONNX Runtime: QDQ, weights int8 for each output channel, activations uint8.
The ranges of the activations are the least and the largest value of an image, averaged over the
images; those of all images together are wider, and cost twice as many boxes. The convolution of the
image, that of the score maps and what enlarges between them stay in float.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from tqdm import tqdm

from evaluation.protocol import GroundTruth
from evaluation.report import Score
from inference.config import DetectConfig
from inference.detector import Detector, open_detector
from inference.folder import FolderImage, image_reader, run_network
from inference.networks import INPUT_NAME, pad_image
from inference.onnx_networks import INT8_GRAPH, INT8_PROCESSORS
from tools.scoring.validation import Truths, refuse_unreadable, score_boxes
from utils.errors import PSENetError, extra_package
from utils.utils_tool import cfg

ONNX_INT8 = 'onnx_int8'
# Of the boxes found by the floats, at IoU 0.5, and of the Hmean that these have.
LEAST_AGREEMENT = 0.97
LARGEST_LOSS = 0.005
_TYPES = ('Conv', 'Relu', 'Add', 'MaxPool')
_HEAD = 'feature_results/'
# ONNX Runtime's levels; it warns of every scalar that is calibrated.
_LOG_ERROR = 3


def quantize(model: bytes, inputs: Iterable[np.ndarray]) -> bytes:
    """Turns an ONNX model of the network into one in eight bits.

    Args:
        model: as ``convert_to_onnx`` makes it.
        inputs: images to calibrate on, uint8 (H, W, 3), RGB, as inference prepares them.

    Returns:
        The model, serialized, with the same input and output.

    Raises:
        PSENetError: a package is not installed.
    """
    with extra_package('--formats=onnx_int8'):
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode
    read = onnx.load_from_string(model)
    in_float = _nodes_in_float(read.graph)
    ranges = _calibrate(model, _tensors(read.graph, in_float), inputs)
    quantizer = QDQQuantizer(
        read, True, False, QuantizationMode.QLinearOps, True, QuantType.QInt8, QuantType.QUInt8,
        ranges, [], sorted(in_float), list(_TYPES), {})
    quantizer.quantize_model()
    quantized = quantizer.model.model
    quantized.graph.name = INT8_GRAPH
    onnx.helper.set_model_props(quantized, {'processors': INT8_PROCESSORS})
    return quantized.SerializeToString()


def _nodes_in_float(graph) -> Set[str]:
    """Names of the nodes that are not quantized, though they are of _TYPES."""
    kernels = {each.name: each.dims for each in graph.initializer}
    makers = {name: node.name for node in graph.node for name in node.output}
    in_float = {node.name for node in graph.node if _is_in_float(node, kernels)}
    takers: Dict[str, List[bool]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(
                node.op_type in _TYPES and node.name not in in_float)
    # The quantizer leaves out every Relu whose input it quantizes, also one whose output it does
    # not.
    return in_float | {node.name for node in graph.node if node.op_type == 'Relu' and (
        makers.get(node.input[0]) in in_float or not any(takers.get(node.output[0], [])))}


def _is_in_float(node, kernels) -> bool:
    if node.op_type == 'Conv':
        outputs, inputs = kernels[node.input[1]][:2]
        return inputs == 3 or outputs == cfg.NUM_KERNELS
    return node.name.startswith(_HEAD)


def _tensors(graph, in_float: Set[str]) -> List[str]:
    """Names of the tensors whose range the quantizer wants to know."""
    constants = {each.name for each in graph.initializer}
    names = [name for node in graph.node if node.op_type in _TYPES and node.name not in in_float
             for name in (*node.input, *node.output) if name not in constants]
    return list(dict.fromkeys(names))


def _calibrate(model: bytes, tensors: List[str], inputs: Iterable[np.ndarray],
               ) -> Dict[str, Tuple[float, float]]:
    """The range of each tensor: its least and its largest value, averaged over the images."""
    import onnx
    import onnxruntime
    augmented = onnx.load_from_string(model)
    graph = augmented.graph
    nodes = {name: node for node in graph.node for name in node.output}
    placed: Dict[str, List] = {}
    for tensor in tensors:
        for kind in ('ReduceMin', 'ReduceMax'):
            name = f'{tensor}/{kind}'
            placed.setdefault(nodes[tensor].name, []).append(
                onnx.helper.make_node(kind, [tensor], [name], name, keepdims=0))
            graph.output.append(onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, []))
    # Each beside what makes its tensor, and run in this order: else most tensors stay to the end.
    ordered = [each for node in graph.node for each in (node, *placed.get(node.name, ()))]
    del graph.node[:]
    graph.node.extend(ordered)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERROR
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # With both, memory is kept for later: 4.6 GB in place of 2.5 at 1280x736.
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(augmented.SerializeToString(), options,
                                           providers=['CPUExecutionProvider'])
    names = [f'{tensor}/{kind}' for tensor in tensors for kind in ('ReduceMin', 'ReduceMax')]
    found = [session.run(names, {INPUT_NAME: image[np.newaxis].astype(np.float32)})
             for image in inputs]
    means = np.mean(np.array(found, np.float64), axis=0).reshape(-1, 2).tolist()
    return {tensor: (low, high) for tensor, (low, high) in zip(tensors, means)}


class Proof(NamedTuple):
    """What a model in eight bits finds in the images, beside the floats that it was made of.

    agreement: Hmean of its boxes with those of the floats for ground truth.
    score, float_score: of both with the ground truth; None if it is not given.
    """

    images: int
    agreement: Score
    score: Optional[Score] = None
    float_score: Optional[Score] = None

    @property
    def holds(self) -> bool:
        """Whether the model may stand for the floats."""
        loss = self.float_score.hmean - self.score.hmean if self.score else 0.0
        return self.agreement.hmean >= LEAST_AGREEMENT and loss <= LARGEST_LOSS

    def line(self) -> str:
        """The report for people."""
        line = (f'Hmean {self.agreement.hmean:.3f} with the boxes of the floats in {self.images} '
                f'images (at least {LEAST_AGREEMENT})')
        if self.score:
            line += (f', {self.score.hmean:.3f} with the ground truth where the floats have '
                     f'{self.float_score.hmean:.3f} (at most {LARGEST_LOSS} less)')
        return line

    def facts(self) -> Dict[str, Any]:
        """What the manifest says."""
        facts = {'images': self.images, 'hmean_with_boxes_of_float': self.agreement.hmean}
        if self.score:
            facts.update(hmean=self.score.hmean, hmean_of_float=self.float_score.hmean)
        return {'processors': INT8_PROCESSORS, 'compared_with_float': facts}


class Quantization(NamedTuple):
    """What a model in eight bits is calibrated on, and held against.

    config: thresholds, sizes and limits; its model is not used.
    calibration: paths of the images to calibrate on.
    images: by id the paths of the images that the proof is made on.
    ground_truth: of these images; None if it is not given.
    """

    config: DetectConfig
    calibration: Sequence[str]
    images: Dict[str, str]
    ground_truth: Optional[Truths] = None


def quantize_file(path: str, wanted: Quantization) -> Proof:
    """Puts a model in eight bits in the place of one in floats, and compares what both find.

    Args:
        path: of the ONNX model.
        wanted: the images.

    Returns:
        What the comparison gave.

    Raises:
        PSENetError: an image cannot be read, or the floats find no text in them.
    """
    config = wanted.config._replace(engine='onnx', model=path)
    with open_detector(config) as detector:
        expected = _find_boxes(detector, wanted)
        if not any(map(len, expected.values())):
            raise PSENetError('the checkpoint finds no text in the images of --test_data_path, so '
                              'they prove nothing of onnx_int8; give others, or train on')
        read = image_reader(config)
        images = (detector.prepare(read(each)).image_rgb for each in wanted.calibration)
        inputs = (pad_image(image, detector.sizes[0]) if detector.sizes else image
                  for image in images)
        with open(path, 'rb') as file:
            quantized = quantize(file.read(), tqdm(inputs, desc='calibrating', unit='image',
                                                   total=len(wanted.calibration)))
    with open(path, 'wb') as file:
        file.write(quantized)
    with open_detector(config) as detector:
        found = _find_boxes(detector, wanted)
    scores = [score_boxes(wanted.ground_truth, boxes) if wanted.ground_truth else None
              for boxes in (found, expected)]
    return Proof(len(wanted.images), agreement(found, expected), *scores)


def agreement(found: Dict[str, np.ndarray], expected: Dict[str, np.ndarray]) -> Score:
    """Scores boxes with those of another network as ground truth.

    Args:
        found: int32 (N, 4, 2) by image.
        expected: the same of the other network.

    Returns:
        The score over all images, at IoU 0.5.
    """
    truth = {image_id: GroundTruth(quads.astype(np.int64), np.zeros(len(quads), bool))
             for image_id, quads in expected.items()}
    return score_boxes(truth, found)


def _find_boxes(detector: Detector, wanted: Quantization) -> Dict[str, np.ndarray]:
    boxes = {}

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        boxes[image.stem] = detector.find_regions(score_maps, image.prepared.geometry).quads

    run_network(detector, wanted.images, keep, image_reader(wanted.config))
    return boxes
