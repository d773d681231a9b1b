"""Frozen graph -> ONNX, by tf2onnx."""

import logging
from typing import Any, Dict

import tensorflow as tf

from inference.networks import INPUT_NAME, OUTPUT_NAME
from utils.errors import extra_package

# ONNX Runtime 1.10 knows those up to 15, which give the same numbers; older programs fewer.
OPSET = 13
_SIZES = {INPUT_NAME: ('N', 'H', 'W'), OUTPUT_NAME: ('N', 'H/4', 'W/4')}


def onnx_facts() -> Dict[str, Any]:
    """What a program has to know of the model, and what made it.

    Raises:
        PSENetError: a package is not installed.
    """
    with extra_package('--formats=onnx'):
        import onnx
        import onnxruntime
        import tf2onnx
    versions = {module.__name__: module.__version__
                for module in (tf, tf2onnx, onnx, onnxruntime)}
    return {'opset': OPSET, 'versions': versions}


def convert_to_onnx(graph_def: tf.GraphDef) -> bytes:
    """Converts a frozen graph.

    Args:
        graph_def: from ``images`` to ``score_maps``.

    Returns:
        The model, serialized; its input and output have the names of those nodes, float32, and the
        sizes of the image are free.
    """
    with extra_package('--formats=onnx'):
        import tf2onnx
    # It tells of each step of its own.
    logging.getLogger('tf2onnx').setLevel(logging.ERROR)
    ends = {f'{name}:0': name for name in (INPUT_NAME, OUTPUT_NAME)}
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def, name='PSENet', input_names=[f'{INPUT_NAME}:0'],
        output_names=[f'{OUTPUT_NAME}:0'], opset=OPSET, tensors_to_rename=ends)
    for end in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(end.type.tensor_type.shape.dim, _SIZES[end.name]):
            dimension.dim_param = size
    return model.SerializeToString()
