"""Networks in .onnx files, run by ONNX Runtime or OpenVINO on the CPU, without TensorFlow."""

import contextlib
import os
import re
import threading
from typing import Any, Dict, Sequence, Tuple, Type

import numpy as np

from inference.networks import (
    INPUT_NAME,
    OUTPUT_NAME,
    ScoreNetwork,
    damaged_model,
    fixed_size,
    graph_file,
    other_model,
    padded,
    too_little_memory,
)
from utils.errors import extra_package, first_line
from utils.utils_tool import cfg, logger

# Name of the graph of an int8 model, and the processors that support it.
INT8_GRAPH = 'PSENet_int8'
INT8_PROCESSORS = 'x86-64 processors with VNNI or AMX, and Arm processors'
# Flags in /proc/cpuinfo.
_DOT_PRODUCTS = {'avx512_vnni', 'avx_vnni', 'amx_int8'}

CPUINFO = '/proc/cpuinfo'
# Type names of ONNX Runtime and OpenVINO.
_DTYPES = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8,
           'f32': np.float32, 'u8': np.uint8}
# Log level of ONNX Runtime, whose errors are also raised.
_LOG_FATAL = 4
# ONNX Runtime's exceptions have no common base class.
_ERRORS = ('Fail', 'InvalidArgument', 'InvalidGraph', 'InvalidProtobuf', 'NotImplemented',
           'RuntimeException')
# OpenVINO's names of numerical types.
_PRECISIONS = {'f32': 'float32', 'bf16': 'bfloat16', 'f16': 'float16'}


class OnnxNetwork(ScoreNetwork):
    """An .onnx file in ONNX Runtime; several threads may run it at once."""

    def __init__(self, model: str):
        """Loads the model.

        Args:
            model: the .onnx file.

        Raises:
            PSENetError: it is missing, damaged or of another network, or ONNX Runtime is not
                installed.
        """
        with extra_package('--engine=onnx'):
            import onnxruntime
        state = onnxruntime.capi.onnxruntime_pybind11_state
        self._errors = tuple(getattr(state, name) for name in _ERRORS)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_FATAL
        # The default is one thread per physical core.
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        try:
            # Pass the content: ONNX Runtime misreads paths that are not UTF-8.
            with open(graph_file(model), 'rb') as file:
                self._session = onnxruntime.InferenceSession(
                    file.read(), options, providers=['CPUExecutionProvider'])
        except (OSError, *self._errors) as error:
            raise damaged_model(model, 'ONNX model', first_line(error)) from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._dtype = _input_dtype(model, {each.name: (each.type, each.shape) for each in inputs},
                                   {each.name: each.shape for each in outputs})
        self.input_sizes = fixed_size(inputs[0].shape)
        _warn_of_processor(model, self._session.get_modelmeta().graph_name)

    def close(self) -> None:
        """Releases the model."""
        self._session = None

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """See ScoreNetwork."""
        return padded(self.input_sizes, image_rgb, self._run)

    def _run(self, image_rgb: np.ndarray) -> np.ndarray:
        fed = image_rgb[np.newaxis].astype(self._dtype)
        try:
            return self._session.run([OUTPUT_NAME], {INPUT_NAME: fed})[0][0]
        except self._errors as error:
            if 'alloc' not in str(error):
                raise
            raise too_little_memory(image_rgb.shape) from None


class OpenVinoNetwork(ScoreNetwork):
    """An .onnx file in OpenVINO; concurrent threads wait for each other."""

    def __init__(self, model: str, precision: str = 'float32'):
        """Loads the model and logs the precision.

        Args:
            model: the .onnx file.
            precision: 'float32', or 'auto' to let OpenVINO choose the fastest: bfloat16 on
                processors that support it. Layers in int8 stay in int8.

        Raises:
            PSENetError: it is missing, damaged or of another network, or OpenVINO is not installed.
        """
        with extra_package('--engine=openvino'):
            import openvino
        hints = {} if precision == 'auto' else {'INFERENCE_PRECISION_HINT': 'f32'}
        self._lock = threading.Lock()
        try:
            with open(graph_file(model), 'rb') as file:
                core = openvino.Core()
                read = core.read_model(file.read(), b'')
            self._compiled = core.compile_model(read, 'CPU', hints)
        except (OSError, RuntimeError) as error:
            # The first lines name OpenVINO's source files.
            reason = str(error).strip().splitlines()[-1].rstrip('.')
            raise damaged_model(model, 'ONNX model', reason) from None
        inputs, outputs = self._compiled.inputs, self._compiled.outputs
        types = {each.any_name: each.element_type.get_type_name() for each in inputs}
        self._dtype = _input_dtype(
            model, {each.any_name: (types[each.any_name], _shape(each)) for each in inputs},
            {each.any_name: _shape(each) for each in outputs})
        self.input_sizes = fixed_size(_shape(inputs[0]))
        self._output = next(each for each in outputs if each.any_name == OUTPUT_NAME)
        self._request = self._compiled.create_infer_request()
        chosen = self._compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()
        logger.info('OpenVINO %s computes in %s on %s', openvino.__version__.split('-')[0],
                    _PRECISIONS.get(chosen, chosen), core.get_property('CPU', 'FULL_DEVICE_NAME'))
        _warn_of_processor(model, read.friendly_name)

    def close(self) -> None:
        """Releases the model."""
        self._request = self._compiled = self._output = None

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """See ScoreNetwork."""
        return padded(self.input_sizes, image_rgb, self._run)

    def _run(self, image_rgb: np.ndarray) -> np.ndarray:
        fed = image_rgb[np.newaxis].astype(self._dtype)
        try:
            with self._lock:
                return self._request.infer({0: fed})[self._output][0].copy()
        except (MemoryError, RuntimeError) as error:
            if 'alloc' not in str(error):
                raise
            raise too_little_memory(image_rgb.shape) from None


def _input_dtype(model: str, inputs: Dict[str, Tuple[str, Sequence[Any]]],
                 outputs: Dict[str, Sequence[Any]]) -> Type[np.generic]:
    """Checks the model's inputs and outputs, and returns the dtype of its input.

    Args:
        model: path of the model, for messages.
        inputs: name -> (type, shape); types as in _DTYPES, shapes (N, H, W, C).
        outputs: name -> shape.
    """
    shapes = {INPUT_NAME: inputs.get(INPUT_NAME, ('', None))[1],
              OUTPUT_NAME: outputs.get(OUTPUT_NAME)}
    for label, depth in ((INPUT_NAME, 3), (OUTPUT_NAME, cfg.NUM_KERNELS)):
        shape = shapes[label]
        if shape is None:
            raise other_model(model, f'tensor {label}')
        if len(shape) != 4 or shape[3] != depth:
            raise other_model(model, f'{label} with {depth} channels')
    kind = inputs[INPUT_NAME][0]
    if len(inputs) > 1 or kind not in _DTYPES:
        raise other_model(model, 'single input of float32 or uint8')
    return _DTYPES[kind]


def _shape(tensor: Any) -> Sequence[Any]:
    """Returns the shape of an OpenVINO input or output; None for dynamic dimensions."""
    return [None if each.is_dynamic else each.get_length() for each in tensor.partial_shape]


def _warn_of_processor(model: str, graph_name: str) -> None:
    """Warns if an int8 model runs on an x86 processor whose 16-bit sums may overflow."""
    if graph_name != INT8_GRAPH:
        return
    flags = read_cpuinfo('flags').split()
    if flags and not _DOT_PRODUCTS & set(flags):
        logger.warning('--model=%s is for %s; on this processor its boxes may be wrong',
                       model, INT8_PROCESSORS)


def read_cpuinfo(field: str) -> str:
    """Reads a field of the first processor in /proc/cpuinfo; '' if it is not available."""
    with contextlib.suppress(OSError), open(CPUINFO, encoding='utf-8') as file:
        found = re.search(rf'^{field}\s*:(.*)', file.read(), re.MULTILINE)
        return found[1].strip() if found else ''
    return ''
