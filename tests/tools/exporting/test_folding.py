"""Batch norm in the kernels: no layer of it is left, and the numbers stay."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.contrib import slim

from nets.model import model
from tests.reference_rule import load_rule_weights
from tools.exporting.formats import fold_batch_norm

IMAGES = np.random.RandomState(1).randint(0, 256, (2, 64, 96, 3)).astype(np.float32)


def frozen(build):
    """The constant graph from `images` to `output` that a function builds."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], name='images')
        tf.identity(build(images), name='output')
        session.run(tf.global_variables_initializer())
        load_rule_weights(session, tf.global_variables())
        return tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ['output'])


def run(graph_def):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name='')
        return session.run('output:0', {'images:0': IMAGES})


def ops_of(graph_def):
    return {node.op for node in graph_def.node}


@pytest.mark.parametrize('upsample_last', [True, False])
def test_the_network_gives_the_same_without_a_layer_of_batch_norm(upsample_last):
    graph_def = frozen(lambda images: model(images, is_training=False, upsample_last=upsample_last))
    before = graph_def.SerializeToString()
    folded = fold_batch_norm(graph_def, 'output')
    assert graph_def.SerializeToString() == before
    assert [op for op in ops_of(graph_def) if 'BatchNorm' in op]
    assert not [op for op in ops_of(folded) if 'BatchNorm' in op]
    assert not [node.name for node in folded.node if node.name.endswith(('gamma', 'moving_mean'))]
    np.testing.assert_allclose(run(folded), run(graph_def), rtol=0, atol=1e-5)


def test_a_layer_that_follows_no_kernel_of_its_own_is_refused():
    graph_def = frozen(lambda images: slim.batch_norm(
        images, is_training=False, scale=True, scope='first/BatchNorm'))
    with pytest.raises(ValueError, match='follows no kernel'):
        fold_batch_norm(graph_def, 'output')
