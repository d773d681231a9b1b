"""import_backbone: Keras' network and its conversion are one function; sources and their faults."""

import io
import json
import os
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest
import tensorflow as tf

from nets.backbones import get_backbone
from nets.model import mean_image_subtraction, model
from tools import import_backbone
from tools.import_backbone import convert, read_weights, write_checkpoint
from training.checkpoints import load_values, open_checkpoint
from utils.errors import PSENetError


@pytest.fixture(scope='module')
def keras(tmp_path_factory):
    """Random Keras weights in an .h5 file, a pooled input, and the features that come of it."""
    path = str(tmp_path_factory.mktemp('keras') / 'resnet50.h5')
    rng = np.random.RandomState(0)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        network = tf.keras.applications.ResNet50(weights=None)
        session.run(tf.global_variables_initializer())
        # Statistics that a conversion must not leave out; its initial ones are zero and one.
        network.set_weights([
            np.abs(1 + 0.2 * rng.randn(*value.shape)) if 'variance' in weight.name
            or 'gamma' in weight.name else value if 'kernel' in weight.name
            else 0.1 * rng.randn(*value.shape)
            for weight, value in zip(network.weights, network.get_weights())])
        network.save_weights(path)
        pooled = rng.uniform(0, 1, (1, 56, 56, 64)).astype(np.float32)
        inner = network.get_layer('pool1_pool').output
        features = session.run(network.get_layer('conv5_block3_out').output, {inner: pooled})
    return path, pooled, features


def features_of(values, pooled):
    """Block 4's features in slim's network."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [1, 224, 224, 3])
        _, _, _, features = get_backbone('resnet_v1_50')(images, 1e-5, False, 0.997)
        load_values(session, tf.global_variables(),
                    [values[variable.op.name] for variable in tf.global_variables()])
        root = session.graph.get_tensor_by_name('resnet_v1_50/pool1/MaxPool:0')
        return session.run(features, {root: pooled})


def test_the_conversion_is_the_same_function(keras):
    path, pooled, expected = keras
    found = features_of(convert(read_weights(path)), pooled)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def as_older_names(weights):
    """The same arrays by the older scheme."""
    parts = {'1': '2a', '2': '2b', '3': '2c', '0': '1'}
    renamed = {}
    for (layer, kind), array in weights.arrays.items():
        found = import_backbone._NEWER.fullmatch(layer)
        if found:
            block, unit, part = found.groups()
            start = 'bn' if layer.endswith('_bn') else 'res'
            older = f'{start}{block}{"abcdef"[int(unit) - 1]}_branch{parts[part]}'
        else:
            older = {'conv1_conv': 'conv1', 'conv1_bn': 'bn_conv1'}.get(layer, 'fc1000')
        renamed[older, kind] = array
    return renamed


def as_npm_archive(arrays, path, epsilon):
    """TensorFlow.js's form in two shards."""
    data = b''.join(array.astype('<f4').tobytes() for array in arrays.values())
    layers = [{'config': {'name': layer, 'epsilon': epsilon}} for layer, kind in arrays
              if kind == 'gamma']
    model_json = json.dumps({
        'modelTopology': {'model_config': {'config': {'layers': layers}}},
        'weightsManifest': [{'paths': ['a.bin', 'b.bin'], 'weights': [
            {'name': f'{layer}/{kind}', 'shape': array.shape, 'dtype': 'float32'}
            for (layer, kind), array in arrays.items()]}]}).encode()
    with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
        for name, content in (('model.json', model_json), ('b.bin', data[1001:]),
                              ('a.bin', data[:1001])):
            member = tarfile.TarInfo(f'package/ResNet50/{name}')
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_all_forms_give_the_same_variables(keras, tmp_path):
    weights = read_weights(keras[0])
    expected = convert(weights)
    assert len(expected) == 267
    assert expected['resnet_v1_50/logits/weights'].shape == (1, 1, 2048, 1000)
    archive = str(tmp_path / 'a.tgz')
    as_npm_archive(as_older_names(weights), archive, 1.001e-5)
    for found in (convert(read_weights(archive)),
                  convert(import_backbone.Weights(as_older_names(weights), {}))):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            # The older scheme's epsilon is larger, where the file does not say.
            np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1.1e-3, err_msg=name)
    conv1 = weights.arrays['conv1_conv', 'kernel']
    np.testing.assert_array_equal(expected['resnet_v1_50/conv1/weights'], conv1[:, :, ::-1])


def test_the_file_is_slim_s_and_loads_into_the_detector(keras, tmp_path):
    path = str(tmp_path / 'new' / 'resnet_v1_50.ckpt')
    write_checkpoint(convert(read_weights(keras[0])), path)
    assert os.listdir(os.path.dirname(path)) == ['resnet_v1_50.ckpt']
    checkpoint = open_checkpoint(path)
    assert checkpoint.global_step() == 0
    with tf.Graph().as_default():
        model(tf.zeros([1, 64, 64, 3]))
        held = [variable for variable in tf.trainable_variables()
                if checkpoint.shapes.get(variable.op.name) == variable.shape.as_list()]
        assert (len(held), len(tf.trainable_variables())) == (159, 178)


def run(*arguments, cwd=None, **environment):
    return subprocess.run([sys.executable, '-m', 'tools.import_backbone', *arguments], check=False,
                          cwd=str(cwd), capture_output=True, text=True,
                          env={**os.environ, **environment})


def test_slim_s_archive_beside_the_target_is_taken_and_nothing_replaced(tmp_path):
    (tmp_path / 'resnet_v1_50.ckpt').write_bytes(b'weights of slim')
    with tarfile.open(str(tmp_path / import_backbone.SLIM_ARCHIVE), 'w:gz') as archive:
        archive.add(str(tmp_path / 'resnet_v1_50.ckpt'), 'resnet_v1_50.ckpt')
    (tmp_path / 'resnet_v1_50.ckpt').unlink()
    for words in ('wrote', 'exists already; --overwrite replaces it'):
        ended = run('--out=resnet_v1_50.ckpt', cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert words in ended.stderr
        assert (tmp_path / 'resnet_v1_50.ckpt').read_bytes() == b'weights of slim'


@pytest.mark.parametrize(('name', 'content', 'words'), [
    ('a.h5', b'no', "cannot be read as Keras' ResNet-50"), ('a.json', b'{}', 'weightsManifest'),
    ('a.tgz', b'\x1f\x8b', 'cannot be read'), ('none.h5', None, 'cannot be read'),
    ('resnet_v1_50_x.tar.gz', b'no', 'is damaged'),
])
def test_a_source_that_cannot_be_used_is_one_sentence(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = run(f'--source={name}', '--out=x.ckpt', cwd=tmp_path)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count('\n') == 1
    assert not (tmp_path / 'x.ckpt').exists()


def test_without_a_source_two_ways_are_named(tmp_path):
    npm = tmp_path / 'npm'
    for script, words in ((None, 'npm is not installed'), ('exit 1', 'npm could not download'),
                          (f'echo x > {import_backbone.NPM_ARCHIVE}', 'has an unexpected SHA-256')):
        if script:
            npm.write_text(f'#!/bin/sh\n{script}\n')
            npm.chmod(0o755)
        ended = run('--out=x.ckpt', cwd=tmp_path, PATH=str(tmp_path))
        assert ended.returncode == 1
        assert words in ended.stderr
        assert import_backbone.SLIM_ARCHIVE in ended.stderr
        assert import_backbone.NPM_PACKAGE in ended.stderr


def test_other_weights_are_refused(keras):
    weights = read_weights(keras[0])
    del weights.arrays['conv1_conv', 'kernel']
    with pytest.raises(PSENetError, match='266 arrays of 267'):
        convert(weights)


def test_a_cat_is_a_cat(project_root):
    path = project_root / 'pretrain_model' / 'resnet_v1_50.ckpt'
    if not path.exists():
        pytest.skip(f'needs {path}; make backbone writes it')
    picture = cv2.imread(str(project_root / 'tests' / 'data' / 'cat.jpg'))
    checkpoint = open_checkpoint(str(path))
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(picture[np.newaxis, ..., ::-1], tf.float32)
        _, _, _, features = get_backbone('resnet_v1_50')(
            mean_image_subtraction(images), 1e-5, False, 0.997)
        load_values(session, tf.global_variables(), [
            checkpoint.reader.get_tensor(v.op.name) for v in tf.global_variables()])
        mean = session.run(features).mean(axis=(1, 2))[0]
    scores = mean @ checkpoint.reader.get_tensor('resnet_v1_50/logits/weights')[0, 0]
    scores += checkpoint.reader.get_tensor('resnet_v1_50/logits/biases')
    # ImageNet's classes 281 to 285: tabby, tiger cat, Persian, Siamese, Egyptian cat.
    assert scores.argmax() in range(281, 286)
