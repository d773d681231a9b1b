"""Batch norm folded into convolutions: inference needs no layer of its own for it.

With the statistics fixed, batch norm is a factor and an addend for each channel. The factor goes
into the kernel of the convolution before it, the addend becomes its bias.
"""

from typing import Dict, Tuple

import numpy as np
import tensorflow as tf

_LAYER = '/BatchNorm/'


def fold_batch_norm(graph_def: tf.GraphDef, output: str) -> tf.GraphDef:
    """Folds every batch norm of a frozen network into the kernel that its scope holds.

    By slim's naming the layer ``a/BatchNorm`` normalises what the kernel ``a/weights`` gives. That
    holds for the head that enlarges last as well: all its parts are linear in the one kernel.

    Args:
        graph_def: variables are constants in it. Unchanged.
        output: name of the node that is wanted.

    Returns:
        The graph without batch norm, and without what only that needed.

    Raises:
        ValueError: a batch norm has no such kernel, or one whose use is not its alone.
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
    """Whoever takes the node's output goes on to do so."""
    bias = graph_def.node.add(name=f'{node.name}/bias', op='Const')
    bias.attr['dtype'].type = tf.float32.as_datatype_enum
    _set_array(bias, addend)
    name, features = node.name, node.input[0]
    node.Clear()
    node.name, node.op = name, 'BiasAdd'
    node.input.extend([features, bias.name])
    node.attr['T'].type = tf.float32.as_datatype_enum


def _array(node: tf.NodeDef) -> np.ndarray:
    """The value of a constant, float64."""
    return tf.make_ndarray(node.attr['value'].tensor).astype(np.float64)


def _set_array(node: tf.NodeDef, array: np.ndarray) -> None:
    tensor = tf.make_tensor_proto(array.astype(np.float32))
    node.attr['value'].CopyFrom(tf.AttrValue(tensor=tensor))
