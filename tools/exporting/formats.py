"""Formats of an exported model, and the frozen graph that all are made from."""

import logging
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from inference.config import Size
from inference.networks import INPUT_NAME, OUTPUT_NAME
from nets.model import model
from tools.exporting.quantization import ONNX_INT8
from training.checkpoints import backbone_of, restore_for_inference
from utils.errors import extra_package


def freeze(prefix: str, size: Optional[Size] = None) -> tf.GraphDef:
    """Builds the network for inference with the weights of a checkpoint as constants.

    Args:
        prefix: prefix of the checkpoint; its moving averages are used, as in eval.py.
        size: fixed (width, height) of the input, for batches of one; None for any size. Ahead-of-
            time compilers such as Ascend's ATC support the ops of a graph of fixed size.

    Returns:
        A graph from the placeholder ``images``, float32 [N, H, W, 3], RGB, 0..255, any N, H and W
        multiples of 32, to ``score_maps``, float32 [N, H/4, W/4, 6]; without batch norm.

    Raises:
        CheckpointError: the checkpoint is damaged or of another network.
    """
    with tf.Graph().as_default() as graph, tf.Session() as session:
        shape = [1, size[1], size[0], 3] if size else [None, None, None, 3]
        images = tf.placeholder(tf.float32, shape, name=INPUT_NAME)
        # upsample_last is faster on a CPU; its matrix products need shapes that are only known at
        # run time, which ahead-of-time compilers do not support.
        score_maps = model(images, is_training=False, upsample_last=size is None,
                           backbone=backbone_of(prefix))
        tf.identity(score_maps, name=OUTPUT_NAME)
        restore_for_inference(session, prefix)
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [OUTPUT_NAME])
    return fold_batch_norm(frozen, OUTPUT_NAME)


_LAYER = '/BatchNorm/'


def fold_batch_norm(graph_def: tf.GraphDef, output: str) -> tf.GraphDef:
    """Folds every batch norm of a frozen network into the kernel in its scope.

    In slim, the layer ``a/BatchNorm`` normalises the output of the kernel ``a/weights``. This also
    holds for the head with ``upsample_last``, whose parts are all linear in one kernel.

    Args:
        graph_def: frozen graph. Unchanged.
        output: name of the output node.

    Returns:
        The graph without batch norm and without nodes that are no longer needed.

    Raises:
        ValueError: a batch norm has no kernel of its own.
    """
    folded = tf.GraphDef()
    folded.CopyFrom(graph_def)
    nodes = {node.name: node for node in folded.node}
    for node in [node for node in folded.node if node.op.startswith('FusedBatchNorm')]:
        scope = node.name.split(_LAYER)[0]
        factor, addend = _factor_and_addend(nodes, scope, node.attr['epsilon'].f)
        kernel = nodes.get(f'{scope}/weights')
        if kernel is None or nodes.get(f'{scope}/biases') is not None:
            raise ValueError(f'{node.name} follows no kernel of its own')
        _set_array(kernel, _array(kernel) * factor)
        _turn_into_bias(folded, node, addend)
    return tf.graph_util.extract_sub_graph(folded, [output])


def _factor_and_addend(nodes: Dict[str, tf.NodeDef], scope: str,
                       epsilon: float) -> Tuple[np.ndarray, np.ndarray]:
    gamma, beta, mean, variance = (
        _array(nodes[f'{scope}{_LAYER}{name}'])
        for name in ('gamma', 'beta', 'moving_mean', 'moving_variance'))
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


def _turn_into_bias(graph_def: tf.GraphDef, node: tf.NodeDef, addend: np.ndarray) -> None:
    """Replaces a batch norm by a BiasAdd of the same name, so that its consumers are unchanged."""
    bias = graph_def.node.add(name=f'{node.name}/bias', op='Const')
    bias.attr['dtype'].type = tf.float32.as_datatype_enum
    _set_array(bias, addend)
    name, features = node.name, node.input[0]
    node.Clear()
    node.name, node.op = name, 'BiasAdd'
    node.input.extend([features, bias.name])
    node.attr['T'].type = tf.float32.as_datatype_enum


def _array(node: tf.NodeDef) -> np.ndarray:
    """Returns the value of a constant as float64."""
    return tf.make_ndarray(node.attr['value'].tensor).astype(np.float64)


def _set_array(node: tf.NodeDef, array: np.ndarray) -> None:
    tensor = tf.make_tensor_proto(array.astype(np.float32))
    node.attr['value'].CopyFrom(tf.AttrValue(tensor=tensor))


# ONNX Runtime 1.10 supports opsets up to 15 with the same results; older programs fewer.
OPSET = 13
_SIZES = {INPUT_NAME: ('N', 'H', 'W'), OUTPUT_NAME: ('N', 'H/4', 'W/4')}


def onnx_facts() -> Dict[str, Any]:
    """Returns the opset and the versions of the packages that make an ONNX model.

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
    """Converts a frozen graph to ONNX.

    Args:
        graph_def: graph from ``images`` to ``score_maps``.

    Returns:
        The serialized model; its float32 input and output have the names of those nodes, and
        image sizes that are not fixed in the graph are free.
    """
    with extra_package('--formats=onnx'):
        import tf2onnx
    # tf2onnx logs each of its steps.
    logging.getLogger('tf2onnx').setLevel(logging.ERROR)
    ends = {f'{name}:0': name for name in (INPUT_NAME, OUTPUT_NAME)}
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def, name='PSENet', input_names=[f'{INPUT_NAME}:0'],
        output_names=[f'{OUTPUT_NAME}:0'], opset=OPSET, tensors_to_rename=ends)
    for end in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(end.type.tensor_type.shape.dim, _SIZES[end.name]):
            if not dimension.dim_value:
                dimension.dim_param = size
    return model.SerializeToString()


SAVED_MODEL = 'saved_model'
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
FLOAT_SIGNATURE = 'serving_float'


class Format(NamedTuple):
    """A format of exported models.

    file: name of the model in the output directory.
    engine: value of --engine of eval.py.
    dtype: dtype of the model's input.
    write: writes the frozen graph to a new path; raises OSError or tf.errors.OpError.
    facts: returns further entries of the manifest; raises PSENetError if a package that the format
        needs is not installed.
    """

    file: str
    engine: str
    dtype: str
    write: Callable[[tf.GraphDef, str], None]
    facts: Callable[[], Dict[str, Any]]


def write_frozen_graph(graph_def: tf.GraphDef, path: str) -> None:
    """Writes the graph to a file."""
    with open(path, 'wb') as file:
        file.write(graph_def.SerializeToString())


def write_saved_model(graph_def: tf.GraphDef, directory: str) -> None:
    """Writes a SavedModel with signatures for uint8 and for float32 images."""
    with tf.Graph().as_default(), tf.Session() as session:
        pixels = tf.placeholder(tf.uint8, [None, None, None, 3], name=INPUT_NAME)
        # The float32 signature feeds this tensor, so that both share one copy of the weights.
        images = tf.to_float(pixels, name=f'{INPUT_NAME}_float')
        score_maps, = tf.import_graph_def(
            graph_def, {INPUT_NAME: images}, [f'{OUTPUT_NAME}:0'], name='network')
        signatures = {
            name: tf.saved_model.predict_signature_def({INPUT_NAME: tensor},
                                                       {OUTPUT_NAME: score_maps})
            for name, tensor in ((DEFAULT_SIGNATURE, pixels), (FLOAT_SIGNATURE, images))}
        builder = tf.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], signatures)
        builder.save()



def _write_onnx(graph_def: tf.GraphDef, path: str) -> None:
    with open(path, 'wb') as file:
        file.write(convert_to_onnx(graph_def))


_TENSORFLOW = {'versions': {'tensorflow': tf.__version__}}
FORMATS: Dict[str, Format] = {
    'frozen_graph': Format('psenet.pb', 'tensorflow', 'float32', write_frozen_graph,
                           _TENSORFLOW.copy),
    SAVED_MODEL: Format('saved_model', 'tensorflow', 'uint8', write_saved_model, lambda: {
        'signatures': {DEFAULT_SIGNATURE: 'uint8', FLOAT_SIGNATURE: 'float32'}, **_TENSORFLOW}),
    'onnx': Format('psenet.onnx', 'onnx', 'float32', _write_onnx, onnx_facts),
    # Written as float32; the export then quantizes the file.
    ONNX_INT8: Format('psenet_int8.onnx', 'onnx', 'float32', _write_onnx, onnx_facts),
}
