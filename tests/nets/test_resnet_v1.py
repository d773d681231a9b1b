"""The residual unit and the strides of the blocks."""

import numpy as np
import pytest
import tensorflow as tf

from nets.resnet.resnet_utils import resnet_arg_scope
from nets.resnet.resnet_v1 import BLOCKS, Block, bottleneck, resnet_v1


@pytest.fixture
def session():
    """An empty graph and a session of it."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def _variable_scopes():
    return {variable.op.name.split('/')[2] for variable in tf.global_variables()}


def _zero_residual(session):
    """Initialises a unit so that its residual branch gives 0: the last gamma and beta are 0."""
    session.run(tf.global_variables_initializer())
    session.run([tf.assign(v, v * 0) for v in tf.global_variables() if '/conv3/' in v.op.name])


@pytest.mark.parametrize('stride', [1, 2])
def test_shortcut_of_equal_depth_is_the_subsampled_input(session, stride):
    features = tf.constant(np.random.RandomState(0).randn(1, 4, 6, 8), tf.float32)
    with resnet_arg_scope(1e-5, is_training=False, batch_norm_decay=0.997):
        unit = bottleneck(features, depth=8, bottleneck_depth=2, stride=stride, scope='unit_1')
    assert _variable_scopes() == {'conv1', 'conv2', 'conv3'}
    _zero_residual(session)
    inputs, outputs = session.run([features, unit])
    np.testing.assert_allclose(outputs, np.maximum(inputs, 0)[:, ::stride, ::stride])


def test_shortcut_to_another_depth_is_a_convolution(session):
    with resnet_arg_scope(1e-5, is_training=False, batch_norm_decay=0.997):
        unit = bottleneck(tf.zeros([1, 4, 6, 3]), 8, bottleneck_depth=2, stride=2, scope='unit_1')
    assert unit.shape.as_list() == [1, 2, 3, 8]
    assert _variable_scopes() == {'shortcut', 'conv1', 'conv2', 'conv3'}


def test_only_the_last_unit_of_a_block_strides(session):
    blocks = [Block(num_units=3, depth=8, bottleneck_depth=2, stride=2)]
    root, outputs = resnet_v1(tf.zeros([1, 64, 64, 3]), blocks, 'net')
    sides = [
        session.graph.get_tensor_by_name(f'net/block1/unit_{unit}/bottleneck_v1/Relu:0').shape[1]
        for unit in (1, 2, 3)
    ]
    assert root.shape.as_list() == [1, 16, 16, 64]
    assert sides == [16, 16, 8]
    assert outputs[0].shape.as_list() == [1, 8, 8, 8]


def test_resnet_50_has_fifty_layers_with_weights():
    # Three convolutions a unit, the root's, and the classifier that this network leaves out.
    assert sum(3 * block.num_units for block in BLOCKS['resnet_v1_50']) + 2 == 50
