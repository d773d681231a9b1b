"""The network against the reference's numbers, with static and with unknown sizes."""

import re
from typing import Dict, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from nets.model import loss, mean_image_subtraction, model
from tests.reference_rule import inputs_by_rule, load_rule_weights, reference_variables
from utils.errors import PSENetError

FIRST_VARIANCE = 'resnet_v1_50/conv1/BatchNorm/moving_variance'
NUM_CONVOLUTIONS = 62
NUM_MOVING_STATISTICS = 2 * 54
MODES = ('infer', 'train')


class Built(NamedTuple):
    """A graph of the network, and what it gave for the reference's weights and inputs."""

    graph: tf.Graph
    forward_op_types: Dict[str, int]
    values: Dict[str, np.ndarray]


def _count_types(graph):
    types = [op.type for op in graph.get_operations()]
    return {name: types.count(name) for name in set(types)}


def _with_gradients(total):
    gradients = tf.gradients(total, tf.trainable_variables())
    return {'_gradnorm': tf.global_norm(gradients), '_grad_first': tf.norm(gradients[0])}


def _build_and_run(meta, mode, known_sides):
    seed, n, h, w = (int(number) for number in meta)
    inputs = inputs_by_rule(np.random.RandomState(seed), n, h, w)
    sides = [h, w] if known_sides else [None, None]
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, *sides, 3])
        score_maps = model(images, is_training=mode == 'train')
        types = _count_types(graph)
        total = loss(tf.constant(inputs.seg_maps), score_maps, tf.constant(inputs.training_mask))
        regularizers = tf.losses.get_regularization_loss()
        fetches = {'': score_maps, '_loss': total, '_reg': regularizers}
        if known_sides:
            fetches.update(_with_gradients(total + regularizers))
        load_rule_weights(session, tf.global_variables())
        values = session.run(fetches, {images: inputs.images})
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), {images: inputs.images})
        values['moving_variance_after'] = session.run(f'{FIRST_VARIANCE}:0')
    return Built(graph, types, values)


@pytest.fixture(scope='module')
def reference(data_dir):
    """The reference's numbers by name."""
    with np.load(str(data_dir / 'reference_graph.npz')) as arrays:
        return dict(arrays)


@pytest.fixture(scope='module')
def static_runs(reference):
    """Both modes, height and width known when the graph is built."""
    return {mode: _build_and_run(reference['meta'], mode, known_sides=True) for mode in MODES}


@pytest.fixture(scope='module')
def dynamic_runs(reference):
    """Both modes, height and width known only when it is run."""
    return {mode: _build_and_run(reference['meta'], mode, known_sides=False) for mode in MODES}


@pytest.fixture(scope='module')
def two_towers():
    """A graph that holds the network twice on one set of weights, with decays of its own."""
    with tf.Graph().as_default() as graph:
        for tower in range(2):
            with tf.name_scope(f'tower_{tower}'), tf.variable_scope('', reuse=tower > 0):
                model(tf.zeros([1, 32, 32, 3]), weight_decay=1.0, batch_norm_decay=0.75)
    return graph


@pytest.mark.parametrize('mode', MODES)
def test_score_maps_match_the_reference(static_runs, reference, mode):
    np.testing.assert_allclose(static_runs[mode].values[''], reference[mode], rtol=0, atol=1e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    ('name', 'tolerance'),
    [('_loss', 1e-5), ('_reg', 1e-5), ('_gradnorm', 1e-3), ('_grad_first', 1e-3)],
)
def test_losses_and_gradients_match_the_reference(static_runs, reference, mode, name, tolerance):
    np.testing.assert_allclose(
        static_runs[mode].values[name], reference[mode + name], rtol=tolerance
    )


def test_update_ops_move_the_statistics_as_the_reference_does(static_runs, reference):
    np.testing.assert_allclose(
        static_runs['train'].values['moving_variance_after'],
        reference['moving_variance_after'],
        rtol=1e-5,
    )


def test_inference_has_no_update_ops(static_runs):
    assert not static_runs['infer'].graph.get_collection(tf.GraphKeys.UPDATE_OPS)


@pytest.mark.parametrize('mode', MODES)
def test_variables_are_the_reference_s_in_its_order(static_runs, mode):
    with static_runs[mode].graph.as_default():
        variables = [
            {'name': v.op.name, 'shape': v.shape.as_list(), 'trainable': v.trainable}
            for v in tf.global_variables()
        ]
        trainable_values = sum(v.shape.num_elements() for v in tf.trainable_variables())
    assert variables == reference_variables()
    assert trainable_values == 28377926


@pytest.mark.parametrize('mode', MODES)
def test_unknown_sides_give_the_same_numbers(static_runs, dynamic_runs, mode):
    static, dynamic = static_runs[mode].values, dynamic_runs[mode].values
    for name, value in dynamic.items():
        np.testing.assert_allclose(value, static[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('mode', MODES)
def test_known_sides_need_no_shape_op(static_runs, dynamic_runs, mode):
    assert 'Shape' not in static_runs[mode].forward_op_types
    assert 'Shape' in dynamic_runs[mode].forward_op_types


def test_towers_share_variables_and_regularizers(two_towers):
    assert len(two_towers.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)) == len(
        reference_variables()
    )
    regularizers = two_towers.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert len(regularizers) == NUM_CONVOLUTIONS


def test_each_tower_updates_the_moving_statistics(two_towers):
    for tower in range(2):
        updates = two_towers.get_collection(tf.GraphKeys.UPDATE_OPS, scope=f'tower_{tower}/')
        assert len(updates) == NUM_MOVING_STATISTICS


def test_the_decay_is_that_of_every_batch_norm(two_towers):
    decays = [
        tf.contrib.util.constant_value(op.inputs[1])
        for op in two_towers.get_operations()
        if re.fullmatch(r'tower_0/.*/AssignMovingAvg(_1)?/sub', op.name)  # 1 - decay
    ]
    assert decays == [0.75] * NUM_MOVING_STATISTICS


def test_means_are_subtracted_in_rgb_order():
    with tf.Graph().as_default(), tf.Session() as session:
        shifted = session.run(mean_image_subtraction(tf.constant([[[[124.68, 116.78, 3.94]]]])))
    np.testing.assert_allclose(shifted, [[[[1, 0, -100]]]], atol=1e-4)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ([1, 100, 64, 3], 'height of the images must be a multiple of 32, not 100'),
        ([1, 64, 48, 3], 'width of the images must be a multiple of 32, not 48'),
        ([1, None, 48, 3], 'width of the images must be a multiple of 32, not 48'),
        ([1, 0, 64, 3], 'height of the images must be a multiple of 32, not 0'),
        ([1, 64, 64, 1], r'must be of shape \[N, H, W, 3\], not \(1, 64, 64, 1\)'),
        ([64, 64, 3], r'must be of shape \[N, H, W, 3\], not \(64, 64, 3\)'),
        (None, r'must be of shape \[N, H, W, 3\]'),
    ],
)
def test_images_of_another_shape_are_refused(shape, message):
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, shape)
        with pytest.raises(ValueError, match=message):
            model(images)
        assert not graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)


def test_an_unknown_backbone_is_refused():
    with tf.Graph().as_default(), pytest.raises(PSENetError, match="unknown backbone 'vgg'"):
        model(tf.zeros([1, 32, 32, 3]), backbone='vgg')
