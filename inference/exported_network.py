"""A model that was exported for TensorFlow, in a session: image -> score maps."""

import os
import warnings
from typing import List, Tuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from inference.exported_files import (
    INPUT_NAME,
    OUTPUT_NAME,
    damaged_model,
    graph_file,
    other_model,
)
from inference.platform import GPU_OR_CPU, Platform
from inference.sessions import SessionNetwork
from training.checkpoint_files import READ_ERRORS
from utils.errors import first_line
from utils.utils_tool import cfg

_DAMAGE = (DecodeError, *READ_ERRORS)


class ExportedNetwork(SessionNetwork):
    """A frozen graph or a SavedModel; nothing of the checkpoint that it was made of is needed."""

    def __init__(self, model: str, platform: Platform = GPU_OR_CPU):
        """Loads the model.

        Args:
            model: a frozen graph, or the folder of a SavedModel.
            platform: where it is to run.

        Raises:
            PSENetError: it is missing, damaged or of another network.
        """
        graph_file(model)
        self._model = model
        super().__init__(platform)

    def _load(self, is_on_cpu: bool) -> None:
        load = _load_saved_model if os.path.isdir(self._model) else _load_frozen_graph
        names = load(self._session, self._model)
        self._images, self._score_maps = _endpoints(self._session, self._model, names)

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """As for every ScoreNetwork."""
        fed = image_rgb.astype(self._images.dtype.as_numpy_dtype)
        return self._run(self._score_maps, self._images, fed)


def _load_frozen_graph(session: tf.Session, model: str) -> Tuple[str, str]:
    """Loads a frozen graph; names of the input and the output tensor."""
    graph_def = tf.GraphDef()
    try:
        with open(model, 'rb') as file, warnings.catch_warnings():
            # Some other files pass for a message, but for a warning; they lack the tensors.
            warnings.simplefilter('ignore', RuntimeWarning)
            graph_def.ParseFromString(file.read())
        with session.graph.as_default():
            tf.import_graph_def(graph_def, name='')
    except _DAMAGE as error:
        raise damaged_model(model, 'frozen graph', first_line(error)) from None
    return f'{INPUT_NAME}:0', f'{OUTPUT_NAME}:0'


def _load_saved_model(session: tf.Session, model: str) -> Tuple[str, str]:
    """Loads a SavedModel; names of the input and the output tensor."""
    try:
        with session.graph.as_default():
            loaded = tf.saved_model.load(session, [tf.saved_model.tag_constants.SERVING], model)
    except _DAMAGE as error:
        raise damaged_model(model, 'SavedModel', first_line(error)) from None
    signature = loaded.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    return signature.inputs[INPUT_NAME].name, signature.outputs[OUTPUT_NAME].name


def _endpoints(session: tf.Session, model: str, names: Tuple[str, str]) -> List[tf.Tensor]:
    """The input and the output tensor, which are what those of this network are."""
    tensors = []
    for label, name, depth in zip((INPUT_NAME, OUTPUT_NAME), names, (3, cfg.NUM_KERNELS)):
        try:
            tensors.append(session.graph.get_tensor_by_name(name))
        except (KeyError, ValueError):
            raise other_model(model, f'tensor {label}') from None
        if tensors[-1].shape.ndims != 4 or tensors[-1].shape[3].value != depth:
            raise other_model(model, f'{label} with {depth} channels')
    return tensors
