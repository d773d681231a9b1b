"""Reading checkpoints into a network of three small layers, whole, partial, damaged or foreign."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tests.training.conftest import write_checkpoint
from training.checkpoints import (
    build_pretrained,
    build_restore,
    model_variables,
    open_checkpoint,
    restore_for_inference,
)
from training.run_folder import CheckpointError

AVERAGE = '/ExponentialMovingAverage'
BACKBONE = 'resnet_v1_50/conv1/weights'
MOVING_MEAN = 'resnet_v1_50/conv1/BatchNorm/moving_mean'
HEAD = 'feature_results/Conv_1/weights'

# What a checkpoint of the network holds; the averages differ from the weights by 100.
WEIGHTS = {BACKBONE: np.float32([1, 2]), MOVING_MEAN: np.float32([3]), HEAD: np.float32([4, 5, 6])}
AVERAGES = {name + AVERAGE: WEIGHTS[name] + 100 for name in (BACKBONE, HEAD)}
BACKBONE_FILE = {BACKBONE: WEIGHTS[BACKBONE], MOVING_MEAN: WEIGHTS[MOVING_MEAN],
                 'resnet_v1_50/logits/weights': np.float32([7, 8]), 'global_step': np.int64(9)}


def without(values, *names):
    """The values but for some names."""
    return {name: value for name, value in values.items() if name not in names}


def build_network():
    """The variables of WEIGHTS, zeros."""
    for name, value in WEIGHTS.items():
        tf.get_variable(name, value.shape, initializer=tf.zeros_initializer(),
                        trainable=name != MOVING_MEAN)


@pytest.fixture
def network(session):
    """The inference network's session, all variables zero."""
    build_network()
    session.run(tf.global_variables_initializer())
    return session


@pytest.fixture
def training(session):
    """(session, average) of a training graph: step, Adam's slots, averages; all initialised."""
    build_network()
    step = tf.get_variable('global_step', [], tf.float32, trainable=False,
                           initializer=tf.zeros_initializer())
    loss = tf.add_n([tf.reduce_sum(variable) for variable in tf.trainable_variables()])
    tf.train.AdamOptimizer().minimize(loss, step)
    average = tf.train.ExponentialMovingAverage(0.9)
    average.apply(tf.trainable_variables())
    session.run(tf.global_variables_initializer())
    return session, average


def values_of(session):
    """All variables of a session as lists, by name."""
    variables = tf.global_variables()
    return {variable.op.name: np.asarray(value).tolist()
            for variable, value in zip(variables, session.run(variables))}



@pytest.mark.parametrize('step', [np.float32(1234), np.int64(1234), np.float32([1234])])
def test_global_step_of_any_type(tmp_path, step):
    prefix = write_checkpoint(tmp_path, {'global_step': step})
    assert open_checkpoint(prefix).global_step() == 1234


def test_global_step_of_a_checkpoint_without_one_is_0(tmp_path):
    assert open_checkpoint(write_checkpoint(tmp_path, WEIGHTS)).global_step() == 0


def test_text_file_is_no_checkpoint(tmp_path):
    path = tmp_path / 'resnet_v1_50.ckpt'
    path.write_text('<html>404 not found</html>')
    with pytest.raises(CheckpointError, match=r'resnet_v1_50\.ckpt is damaged or not a TensorFlow'):
        open_checkpoint(str(path))


def test_text_in_an_index_file_is_no_checkpoint(tmp_path):
    prefix = write_checkpoint(tmp_path, WEIGHTS)
    with open(prefix + '.index', 'w', encoding='utf-8') as file:
        file.write('version https://git-lfs.github.com/spec/v1')
    with pytest.raises(CheckpointError, match=r'model\.ckpt-1 is damaged or not a TensorFlow'):
        open_checkpoint(prefix)


def test_step_in_a_truncated_data_file_is_named(tmp_path):
    prefix = write_checkpoint(tmp_path, {'global_step': np.float32(5)})
    os.truncate(prefix + '.data-00000-of-00001', 1)
    with pytest.raises(CheckpointError, match=r'model\.ckpt-1 is damaged: its data cannot be read'):
        open_checkpoint(prefix).global_step()



def test_inference_takes_the_averages(network, tmp_path, messages):
    restore_for_inference(network, write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES}))
    assert values_of(network) == {
        BACKBONE: [101, 102], MOVING_MEAN: [3], HEAD: [104, 105, 106]}
    assert not messages()


def test_inference_needs_no_raw_weights_beside_the_averages(network, tmp_path):
    values = {MOVING_MEAN: WEIGHTS[MOVING_MEAN], **AVERAGES}
    restore_for_inference(network, write_checkpoint(tmp_path, values))
    assert values_of(network)[HEAD] == [104, 105, 106]


def test_inference_takes_raw_weights_with_a_warning(network, tmp_path, messages):
    restore_for_inference(network, write_checkpoint(tmp_path, WEIGHTS))
    assert values_of(network) == {name: value.tolist() for name, value in WEIGHTS.items()}
    assert 'no moving averages for 2 of 2 weights' in messages()[0]


def test_inference_mixes_where_some_averages_are_missing(network, tmp_path, messages):
    values = without({**WEIGHTS, **AVERAGES}, HEAD + AVERAGE)
    restore_for_inference(network, write_checkpoint(tmp_path, values))
    assert values_of(network)[BACKBONE] == [101, 102]
    assert values_of(network)[HEAD] == [4, 5, 6]
    assert 'no moving averages for 1 of 2 weights' in messages()[0]


def test_inference_from_a_folder(network, tmp_path):
    write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES}, 'model.ckpt-7')
    restore_for_inference(network, str(tmp_path))
    assert values_of(network)[BACKBONE] == [101, 102]


def test_inference_from_a_v1_file(network, tmp_path):
    prefix = write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES}, version=tf.train.SaverDef.V1)
    assert os.path.isfile(prefix)
    restore_for_inference(network, prefix)
    assert values_of(network)[BACKBONE] == [101, 102]


def test_backbone_file_is_called_by_its_name(network, tmp_path):
    prefix = write_checkpoint(tmp_path, BACKBONE_FILE, 'resnet_v1_50.ckpt')
    with pytest.raises(CheckpointError,
                       match=r'50\.ckpt contains only the backbone.*--pretrained_model_path'):
        restore_for_inference(network, prefix)


def test_missing_variables_are_counted_and_one_is_named(network, tmp_path):
    prefix = write_checkpoint(tmp_path, without(WEIGHTS, BACKBONE, MOVING_MEAN))
    with pytest.raises(CheckpointError, match=f'2 variables are missing, {MOVING_MEAN}'):
        restore_for_inference(network, prefix)


def test_checkpoint_of_another_network_is_refused(network, tmp_path):
    prefix = write_checkpoint(tmp_path, {'vgg_16/conv1/weights': np.float32([1])})
    with pytest.raises(CheckpointError, match='a checkpoint of another network: 3 variables'):
        restore_for_inference(network, prefix)


def test_wrong_shape_is_named(network, tmp_path):
    prefix = write_checkpoint(tmp_path, {**WEIGHTS, HEAD: np.float32([4, 5])})
    with pytest.raises(CheckpointError,
                       match=rf'has {HEAD} with shape \[2\], but the network needs \[3\]'):
        restore_for_inference(network, prefix)


def test_truncated_data_file_is_named(network, tmp_path):
    prefix = write_checkpoint(tmp_path, WEIGHTS)
    os.truncate(prefix + '.data-00000-of-00001', 4)
    with pytest.raises(CheckpointError, match=r'model\.ckpt-1 is damaged: its data cannot be read'):
        restore_for_inference(network, prefix)


def test_missing_checkpoint_is_named(network, tmp_path):
    with pytest.raises(CheckpointError, match='there is no checkpoint at'):
        restore_for_inference(network, str(tmp_path / 'nothing'))



def test_model_variables_are_neither_step_nor_slots_nor_averages(training):
    assert {variable.op.name for variable in model_variables()} == set(WEIGHTS)


def test_training_restores_everything(training, tmp_path, messages):
    session, average = training
    held = {name: np.float32(np.arange(np.size(value)) + 7).reshape(np.shape(value))
            for name, value in values_of(session).items()}
    build_restore(open_checkpoint(write_checkpoint(tmp_path, held)), average)(session)
    assert values_of(session) == {name: value.tolist() for name, value in held.items()}
    assert {HEAD + '/Adam', HEAD + '/Adam_1', 'beta1_power', HEAD + AVERAGE} < set(held)
    assert messages() == [f"restored {tmp_path / 'model.ckpt-1'}"]


def test_training_restores_an_integer_step(training, tmp_path):
    session, average = training
    prefix = write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES, 'global_step': np.int64(77)})
    build_restore(open_checkpoint(prefix), average)(session)
    assert values_of(session)['global_step'] == 77.0


def test_training_without_slots_starts_them_afresh_with_a_warning(training, tmp_path, messages):
    session, average = training
    values = {**WEIGHTS, **AVERAGES, 'global_step': np.float32(5)}
    build_restore(open_checkpoint(write_checkpoint(tmp_path, values)), average)(session)
    after = values_of(session)
    assert after[HEAD + '/Adam'] == [0, 0, 0]
    assert after[HEAD + AVERAGE] == [104, 105, 106]
    assert 'no values for 6 training variables, such as beta1_power' in messages()[0]


def test_training_without_averages_starts_them_from_the_weights(training, tmp_path, messages):
    session, average = training
    values = without({**WEIGHTS, **AVERAGES}, HEAD + AVERAGE)
    build_restore(open_checkpoint(write_checkpoint(tmp_path, values)), average)(session)
    after = values_of(session)
    assert after[HEAD + AVERAGE] == [4, 5, 6]
    assert after[BACKBONE + AVERAGE] == [101, 102]
    assert 'start from their initial values' in messages()[0]


def test_training_refuses_a_backbone_file(training, tmp_path):
    session, average = training
    prefix = write_checkpoint(tmp_path, BACKBONE_FILE)
    with pytest.raises(CheckpointError, match='contains only the backbone'):
        build_restore(open_checkpoint(prefix), average)(session)



@pytest.mark.parametrize('version', [tf.train.SaverDef.V1, tf.train.SaverDef.V2])
def test_pretrained_loads_what_the_file_holds(training, tmp_path, messages, version):
    session, average = training
    prefix = write_checkpoint(tmp_path, BACKBONE_FILE, 'resnet_v1_50.ckpt', version=version)
    build_pretrained(prefix, average)(session)
    after = values_of(session)
    assert after[BACKBONE] == after[BACKBONE + AVERAGE] == [1, 2]
    assert messages() == [f'loaded 1 of 2 trainable variables from {prefix}, a backbone']
    assert after[MOVING_MEAN] == [0]


def test_pretrained_leaves_the_rest_as_it_was(training, tmp_path):
    session, average = training
    before = values_of(session)
    build_pretrained(write_checkpoint(tmp_path, BACKBONE_FILE), average)(session)
    loaded = (BACKBONE, BACKBONE + AVERAGE)
    assert without(values_of(session), *loaded) == without(before, *loaded)


def test_a_detector_gives_its_averages_and_statistics(training, tmp_path, messages):
    session, average = training
    prefix = write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES})
    build_pretrained(prefix, average)(session)
    after = values_of(session)
    assert after[BACKBONE] == after[BACKBONE + AVERAGE] == [101, 102]
    assert after[HEAD] == [104, 105, 106]
    assert after[MOVING_MEAN] == [3]
    assert messages() == [f'loaded 2 of 2 trainable variables from {prefix}, a trained detector, '
                          'with 2 moving averages and 1 batch-norm statistics']


def test_a_detector_without_averages_gives_its_weights(training, tmp_path):
    session, average = training
    build_pretrained(write_checkpoint(tmp_path, WEIGHTS), average)(session)
    after = values_of(session)
    assert after[BACKBONE] == after[BACKBONE + AVERAGE] == [1, 2]
    assert after[MOVING_MEAN] == [3]


@pytest.mark.parametrize(('in_graph', 'in_file'), [
    ('beta1_power', 'cond/beta1_power'), ('cond/beta1_power', 'beta1_power'),
    ('cond/beta1_power', 'cond_1/beta1_power')])
def test_powers_of_adam_are_found_under_the_name_of_another_device(
        session, tmp_path, messages, in_graph, in_file):
    weight = tf.get_variable('weight', [], initializer=tf.zeros_initializer())
    average = tf.train.ExponentialMovingAverage(0.9)
    average.apply([weight])
    power = tf.Variable(1.0, name=in_graph, trainable=False)
    session.run(tf.global_variables_initializer())
    prefix = write_checkpoint(tmp_path, {
        'weight': np.float32(2), 'weight' + AVERAGE: np.float32(3), in_file: np.float32(0.5)})
    build_restore(open_checkpoint(prefix), average)(session)
    assert session.run(power) == 0.5
    assert messages() == [f'restored {prefix}']


@pytest.mark.parametrize('name', ['run[1]', 'run*', 'run?', 'a\\\\b', 'run]', '[x'])
@pytest.mark.parametrize('version', [tf.train.SaverDef.V1, tf.train.SaverDef.V2])
def test_paths_that_look_like_a_pattern(training, tmp_path, name, version):
    session, average = training
    for directory in ('run1', name):
        (tmp_path / directory).mkdir()
    write_checkpoint(tmp_path / 'run1', {HEAD: np.float32([0])})
    prefix = write_checkpoint(tmp_path, {**WEIGHTS, **AVERAGES}, 'plain', version=version)
    for path in tmp_path.glob('plain*'):
        path.rename(tmp_path / name / path.name.replace('plain', 'best[0.8]'))
    prefix = str(tmp_path / name / 'best[0.8]')
    build_restore(open_checkpoint(prefix), average)(session)
    assert values_of(session)[BACKBONE] == [1, 2]
    if version == tf.train.SaverDef.V2:
        assert open_checkpoint(str(tmp_path / name)).prefix == prefix


def test_links_that_cannot_be_made_are_told_of(tmp_path, monkeypatch):
    (tmp_path / 'run[1]').mkdir()
    write_checkpoint(tmp_path, WEIGHTS, 'plain')
    for path in tmp_path.glob('plain*'):
        path.rename(tmp_path / 'run[1]' / path.name)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'nowhere'))
    with pytest.raises(CheckpointError, match=r'run\[1\]/plain has one .*TMPDIR'):
        open_checkpoint(str(tmp_path / 'run[1]'))


@pytest.fixture
def weights(tmp_path):
    """Path of an .npz file of weights, float16 but for statistics."""
    path = tmp_path / 'weights.npz'
    np.savez(str(path), **{name: value if name == MOVING_MEAN else value.astype(np.float16)
                           for name, value in WEIGHTS.items()})
    return str(path)


@pytest.mark.parametrize('by_folder', [False, True])
def test_weights_of_numpy_are_loaded_for_inference(network, weights, messages, by_folder):
    restore_for_inference(network, os.path.dirname(weights) if by_folder else weights)
    after = values_of(network)
    assert {name: after[name] for name in WEIGHTS} == {
        name: value.tolist() for name, value in WEIGHTS.items()}
    assert messages() == []


def test_fine_tuning_starts_from_weights_of_numpy(training, weights):
    session, average = training
    load = build_pretrained(weights, average)
    session.graph.finalize()
    load(session)
    after = values_of(session)
    assert after[BACKBONE] == after[BACKBONE + AVERAGE] == [1, 2]
    assert after[MOVING_MEAN] == [3]


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'no archive'])
def test_damaged_weights_of_numpy_are_told_of(network, tmp_path, content):
    (tmp_path / 'weights.npz').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'weights\.npz is damaged or no'):
        restore_for_inference(network, str(tmp_path / 'weights.npz'))


def test_weights_of_numpy_with_objects_are_refused(network, tmp_path):
    np.savez(str(tmp_path / 'weights.npz'), **{BACKBONE: np.array([{}], object)})
    with pytest.raises(CheckpointError, match=r'weights\.npz is damaged or no'):
        restore_for_inference(network, str(tmp_path / 'weights.npz'))


def test_pretrained_that_matches_nothing_is_refused(training, tmp_path):
    _, average = training
    prefix = write_checkpoint(tmp_path, {'resnet_v2_50/conv1/weights': np.float32([1])})
    with pytest.raises(CheckpointError, match=r'--pretrained_model_path=.* has none of the 2 '
                                              r'trainable .*resnet_v2_50/conv1/weights'):
        build_pretrained(prefix, average)


def test_pretrained_with_another_shape_is_named(training, tmp_path):
    _, average = training
    prefix = write_checkpoint(tmp_path, {BACKBONE: np.float32([1, 2, 3])})
    with pytest.raises(CheckpointError, match=rf'{BACKBONE} with shape \[3\]'):
        build_pretrained(prefix, average)


def test_what_loads_is_built_before_the_graph_is_final(training, tmp_path):
    session, average = training
    restore = build_restore(open_checkpoint(write_checkpoint(tmp_path, WEIGHTS)), average)
    pretrained = build_pretrained(write_checkpoint(tmp_path, BACKBONE_FILE, 'other.ckpt'), average)
    session.graph.finalize()
    restore(session)
    pretrained(session)
    after = values_of(session)
    assert (after[HEAD], after[BACKBONE + AVERAGE]) == ([4, 5, 6], [1, 2])
