"""A model that was exported to ONNX, in ONNX Runtime on the CPU: image -> score maps."""

import os
from typing import Any, Type

import numpy as np

from inference.exported_files import (
    INPUT_NAME,
    OUTPUT_NAME,
    damaged_model,
    graph_file,
    other_model,
)
from inference.score_network import ScoreNetwork, too_little_memory
from utils.errors import first_line
from utils.extra_packages import extra_package
from utils.utils_tool import cfg

_DTYPES = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8}
# ONNX Runtime's levels: 0 is verbose, 4 fatal. Its errors are raised as well.
_LOG_FATAL = 4
# They have no base class of their own.
_ERRORS = ('Fail', 'InvalidArgument', 'InvalidGraph', 'InvalidProtobuf', 'NotImplemented',
           'RuntimeException')


class OnnxNetwork(ScoreNetwork):
    """An .onnx file; TensorFlow plays no part, and need not be installed."""

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
        # Left to itself it takes one thread for a core that is two processors.
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        try:
            # The content, and not the path: ONNX Runtime would read one that is no UTF-8 wrongly.
            with open(graph_file(model), 'rb') as file:
                self._session = onnxruntime.InferenceSession(
                    file.read(), options, providers=['CPUExecutionProvider'])
        except (OSError, *self._errors) as error:
            raise damaged_model(model, 'ONNX model', first_line(error)) from None
        self._dtype = _input_dtype(self._session, model)

    def close(self) -> None:
        """Frees the model; nothing can be run any more."""
        self._session = None

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """As for every ScoreNetwork."""
        fed = image_rgb[np.newaxis].astype(self._dtype)
        try:
            return self._session.run([OUTPUT_NAME], {INPUT_NAME: fed})[0][0]
        except self._errors as error:
            if 'alloc' not in str(error):
                raise
            raise too_little_memory(image_rgb.shape) from None


def _input_dtype(session: Any, model: str) -> Type[np.generic]:
    """What the model takes pixels as; its input and output are those of this network."""
    tensors = {INPUT_NAME: (session.get_inputs(), 3),
               OUTPUT_NAME: (session.get_outputs(), cfg.NUM_KERNELS)}
    for label, (candidates, depth) in tensors.items():
        shapes = [tensor.shape for tensor in candidates if tensor.name == label]
        if not shapes:
            raise other_model(model, f'tensor {label}')
        if len(shapes[0]) != 4 or shapes[0][3] != depth:
            raise other_model(model, f'{label} with {depth} channels')
    kinds = [tensor.type for tensor in session.get_inputs()]
    if len(kinds) > 1 or kinds[0] not in _DTYPES:
        raise other_model(model, f'single input of {" or ".join(_DTYPES)}')
    return _DTYPES[kinds[0]]
