"""Quantization of the network to int8: calibration on images, and comparison with float32.

Static quantization by ONNX Runtime: QDQ, int8 weights per output channel, uint8 activations. The
range of an activation is its minimum and maximum per image, averaged over the images; the extremes
over all images give wider ranges and lose twice as many boxes. The first and last convolutions and
the upsampling in the head stay in float32.
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
# Minimum Hmean with the boxes of the float model, at IoU 0.5, and maximum loss of Hmean with truth.
LEAST_AGREEMENT = 0.97
LARGEST_LOSS = 0.005
_TYPES = ('Conv', 'Relu', 'Add', 'MaxPool')
_HEAD = 'feature_results/'
# Log level of ONNX Runtime, which warns of every calibrated scalar.
_LOG_ERROR = 3


def quantize(model: bytes, inputs: Iterable[np.ndarray]) -> bytes:
    """Quantizes an ONNX model of the network.

    Args:
        model: serialized model from ``convert_to_onnx``.
        inputs: calibration images, uint8 (H, W, 3), RGB, as prepared for inference.

    Returns:
        The serialized int8 model with the same input and output.

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
    """Returns the names of nodes of _TYPES that are not quantized."""
    kernels = {each.name: each.dims for each in graph.initializer}
    makers = {name: node.name for node in graph.node for name in node.output}
    in_float = {node.name for node in graph.node if _is_in_float(node, kernels)}
    takers: Dict[str, List[bool]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(
                node.op_type in _TYPES and node.name not in in_float)
    # The quantizer drops every Relu whose input it quantizes, even if the output stays in float.
    return in_float | {node.name for node in graph.node if node.op_type == 'Relu' and (
        makers.get(node.input[0]) in in_float or not any(takers.get(node.output[0], [])))}


def _is_in_float(node, kernels) -> bool:
    if node.op_type == 'Conv':
        outputs, inputs = kernels[node.input[1]][:2]
        return inputs == 3 or outputs == cfg.NUM_KERNELS
    return node.name.startswith(_HEAD)


def _tensors(graph, in_float: Set[str]) -> List[str]:
    """Returns the names of the tensors whose ranges the quantizer needs."""
    constants = {each.name for each in graph.initializer}
    names = [name for node in graph.node if node.op_type in _TYPES and node.name not in in_float
             for name in (*node.input, *node.output) if name not in constants]
    return list(dict.fromkeys(names))


def _calibrate(model: bytes, tensors: List[str], inputs: Iterable[np.ndarray],
               ) -> Dict[str, Tuple[float, float]]:
    """Computes the minimum and maximum of each tensor, averaged over the images."""
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
    # Each reduction directly follows its tensor's node and runs in this order; otherwise most
    # tensors would stay in memory to the end.
    ordered = [each for node in graph.node for each in (node, *placed.get(node.name, ()))]
    del graph.node[:]
    graph.node.extend(ordered)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERROR
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # Both keep memory for later runs: 4.6 GB instead of 2.5 at 1280x736.
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(augmented.SerializeToString(), options,
                                           providers=['CPUExecutionProvider'])
    names = [f'{tensor}/{kind}' for tensor in tensors for kind in ('ReduceMin', 'ReduceMax')]
    found = [session.run(names, {INPUT_NAME: image[np.newaxis].astype(np.float32)})
             for image in inputs]
    means = np.mean(np.array(found, np.float64), axis=0).reshape(-1, 2).tolist()
    return {tensor: (low, high) for tensor, (low, high) in zip(tensors, means)}


class Proof(NamedTuple):
    """Comparison of an int8 model with the float model that it was made from.

    agreement: score of its boxes with those of the float model as ground truth.
    score, float_score: scores of both with the ground truth; None without one.
    """

    images: int
    agreement: Score
    score: Optional[Score] = None
    float_score: Optional[Score] = None

    @property
    def holds(self) -> bool:
        """Returns True if the int8 model may replace the float model."""
        loss = self.float_score.hmean - self.score.hmean if self.score else 0.0
        return self.agreement.hmean >= LEAST_AGREEMENT and loss <= LARGEST_LOSS

    def line(self) -> str:
        """Formats the report."""
        line = (f'Hmean {self.agreement.hmean:.3f} with the boxes of the float model in '
                f'{self.images} images (at least {LEAST_AGREEMENT})')
        if self.score:
            line += (f', {self.score.hmean:.3f} with the ground truth (float model '
                     f'{self.float_score.hmean:.3f}, at most {LARGEST_LOSS} less)')
        return line

    def facts(self) -> Dict[str, Any]:
        """Returns the entries of the manifest."""
        facts = {'images': self.images, 'hmean_with_boxes_of_float': self.agreement.hmean}
        if self.score:
            facts.update(hmean=self.score.hmean, hmean_of_float=self.float_score.hmean)
        return {'processors': INT8_PROCESSORS, 'compared_with_float': facts}


class Quantization(NamedTuple):
    """Settings of the calibration and the comparison of an int8 model.

    config: thresholds, sizes and limits; its model is not used.
    calibration: paths of the calibration images.
    images: image id -> path of the images to compare on.
    ground_truth: ground truth of these images; None without one.
    """

    config: DetectConfig
    calibration: Sequence[str]
    images: Dict[str, str]
    ground_truth: Optional[Truths] = None


def quantize_file(path: str, wanted: Quantization) -> Proof:
    """Replaces a float model by its quantized version, and compares the boxes of both.

    Args:
        path: path of the ONNX model.
        wanted: calibration and test images.

    Returns:
        The comparison.

    Raises:
        PSENetError: an image cannot be read, or the float model finds no text.
    """
    config = wanted.config._replace(engine='onnx', model=path)
    with open_detector(config) as detector:
        expected = _find_boxes(detector, wanted)
        if not any(map(len, expected.values())):
            raise PSENetError('the checkpoint finds no text in the images of --test_data_path, so '
                              'onnx_int8 cannot be compared; give other images, or train longer')
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
    """Scores boxes with those of another network as ground truth, at IoU 0.5.

    Args:
        found: image id -> int32 (N, 4, 2).
        expected: the same from the other network.
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
