"""tools.export as a person runs it, and eval.py with the models that it writes."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from inference.config import DetectConfig
from inference.detector import prepare_image
from inference.networks import Network
from inference.thresholds import SUFFIX, Thresholds, write_thresholds
from tests.small_network.sitecustomize import PYTHONPATH, small_network
from tools import export
from tools.exporting.formats import FORMATS
from utils.image_io import read_image, write_image

MAX_SIDE = 256
MODELS = {'psenet.pb': 'tensorflow', 'saved_model': 'tensorflow', 'psenet.onnx': 'onnx'}
# Rounding moves no score by as much.
GAP = 2e-5


class Exports:
    """A checkpoint with thresholds beside it, images, and the models that were exported."""

    def __init__(self, place, directory):
        self.place = place
        self.directory = directory
        self.output = directory / '导出 models'
        self.images = directory / 'images'
        shutil.copytree(str(place.images), str(self.images))
        self.prefix = str(directory / 'model.ckpt-7')
        for suffix in ('.index', '.data-00000-of-00001'):
            os.link(place.prefix + suffix, self.prefix + suffix)

    def command(self, script, *arguments):
        program = ['-m', script] if script.startswith('tools.') else [self.place.root / script]
        return [sys.executable, *map(str, program),
                f'--checkpoint_path={self.prefix}', f'--test_data_path={self.images}',
                f'--max_side_len={MAX_SIDE}', *arguments]

    def run(self, script, *arguments, **variables):
        return subprocess.run(self.command(script, *arguments), capture_output=True, check=False,
                              encoding='utf-8', env={**self.place.environment, **variables})

    def export(self, *arguments, **variables):
        return self.run('tools.export', f'--output_dir={self.output}', *arguments, **variables)

    def boxes(self, *arguments):
        """Runs eval.py: its messages, and the text of the result files."""
        output = self.directory / 'boxes'
        done = self.run('eval.py', f'--output_dir={output}', '--gpu_list=', '--no_write_images',
                        *arguments)
        assert done.returncode == 0, done.stderr
        return done.stderr, {path.name: path.read_text() for path in output.glob('res_*.txt')}


def threshold_that_rounding_cannot_cross(prefix, images):
    """The middle of the widest gap between scores of the images that are neither low nor high."""
    with small_network():
        network = Network(prefix)
    scores = np.concatenate([
        network.score_maps(prepare_image(read_image(str(path)), MAX_SIDE).image_rgb).reshape(-1)
        for path in images])
    network.close()
    scores.sort()
    medium = scores[int(0.4 * len(scores)):int(0.7 * len(scores))]
    widest = np.argmax(np.diff(medium))
    assert medium[widest + 1] - medium[widest] > GAP
    return float(medium[widest] + medium[widest + 1]) / 2


@pytest.fixture(scope='module')
def exports(place, tmp_path_factory):
    for name in ('onnx', 'onnxruntime', 'tf2onnx'):
        pytest.importorskip(name)
    exports = Exports(place, tmp_path_factory.mktemp('exports'))
    threshold = threshold_that_rounding_cannot_cross(exports.prefix, exports.images.iterdir())
    write_thresholds(DetectConfig(checkpoint_path=exports.prefix), Thresholds(threshold, 2, 1), {})
    yield exports
    shutil.rmtree(str(exports.directory))  # three models take 340 MB


@pytest.fixture(scope='module')
def exported(exports):
    """What an export of all formats printed; it ended well."""
    done = exports.export()
    assert done.returncode == 0, done.stderr
    return done


def test_each_format_is_there_and_told_of(exports, exported):
    assert sorted(os.listdir(str(exports.output))) == sorted(
        ['model.json', *MODELS, *(name + SUFFIX for name in MODELS)])
    assert [line.split()[0] for line in exported.stdout.splitlines()] == [
        'frozen_graph', 'saved_model', 'onnx']
    for line, name in zip(exported.stdout.splitlines(), MODELS):
        assert f'{exports.output / name}: ' in line
        assert ' MB, largest difference ' in line
        assert ' ms per image (checkpoint ' in line
    assert f'comparing on 2 images of {exports.images}, at 128x96, 128x128, 64x64' in (
        exported.stderr)


def test_the_manifest_tells_what_they_are(exports, exported):
    content = json.loads((exports.output / 'model.json').read_text())
    assert {model['file']: model['engine'] for model in content['models'].values()} == MODELS
    for model in content['models'].values():
        assert model['checkpoint']['name'] == 'model.ckpt-7'
        assert model['compared_with_checkpoint']['max_difference'] <= 1e-4
        assert model['versions']['tensorflow'] == tf.__version__


def test_the_frozen_graph_has_no_batch_norm(exports, exported):
    graph_def = tf.GraphDef.FromString((exports.output / 'psenet.pb').read_bytes())
    assert not [node.name for node in graph_def.node if 'BatchNorm' in node.op]
    assert [node.name for node in graph_def.node if node.op == 'Placeholder'] == ['images']


def test_the_saved_model_takes_batches_of_bytes_and_of_floats(exports, exported):
    batch = np.random.RandomState(2).randint(0, 256, (2, 96, 64, 3))
    with tf.Graph().as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(session, ['serve'], str(exports.output / 'saved_model'))
        found = []
        for name, dtype in (('serving_default', np.uint8), ('serving_float', np.float32)):
            signature = loaded.signature_def[name]
            found.append(session.run(
                signature.outputs['score_maps'].name,
                {signature.inputs['images'].name: batch.astype(dtype)}))
    assert found[0].shape == (2, 24, 16, 6)
    np.testing.assert_array_equal(*found)


def test_the_onnx_model_takes_batches_and_names_its_sizes(exports, exported):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(exports.output / 'psenet.onnx'),
                                           providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].shape == ['N', 'H', 'W', 3]
    assert session.get_outputs()[0].shape == ['N', 'H/4', 'W/4', 6]
    batch = np.random.RandomState(2).randint(0, 256, (2, 96, 64, 3)).astype(np.float32)
    both, = session.run(['score_maps'], {'images': batch})
    for image, maps in zip(batch, both):
        alone, = session.run(['score_maps'], {'images': image[np.newaxis]})
        np.testing.assert_allclose(alone[0], maps, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def expected(exports):
    """The boxes of the checkpoint, at its thresholds."""
    _, boxes = exports.boxes()
    assert all(boxes.values())
    return boxes


@pytest.mark.parametrize('name', list(MODELS))
def test_eval_finds_the_boxes_of_the_checkpoint(exports, exported, expected, name):
    model = exports.output / name
    stderr, boxes = exports.boxes(f'--engine={MODELS[name]}', f'--model={model}')
    assert boxes == expected
    assert f'{model}{SUFFIX}: --seg_map_thresh=' in stderr


def test_eval_finds_the_boxes_of_the_checkpoint_in_real_images(exports, exported, icdar_dir):
    for path in list(exports.images.iterdir()):
        path.unlink()
    for number in (1, 2):
        photo = read_image(str(icdar_dir / 'test' / f'img_{number}.jpg'))
        write_image(str(exports.images / f'img_{number}.png'), photo[:MAX_SIDE, :MAX_SIDE])
    threshold = threshold_that_rounding_cannot_cross(exports.prefix, exports.images.iterdir())
    flag = f'--seg_map_thresh={threshold}'
    _, found = exports.boxes('--engine=onnx', f'--model={exports.output / "psenet.onnx"}', flag)
    _, expected = exports.boxes(flag)
    assert len(found) == 2
    assert all(found.values())
    assert found == expected


@pytest.fixture
def without_onnx(tmp_path):
    """A directory for PYTHONPATH in which the packages of ONNX are broken."""
    for name in ('onnx', 'onnxruntime', 'tf2onnx'):
        (tmp_path / f'{name}.py').write_text(f'raise ModuleNotFoundError(name={name!r})')
    return f'{tmp_path}:{PYTHONPATH}'


def test_a_model_that_differs_is_not_kept_and_the_earlier_one_is(exports, exported, without_onnx):
    earlier = (exports.output / 'psenet.pb').stat()
    manifest = (exports.output / 'model.json').read_text()
    done = exports.export('--formats=frozen_graph', '--max_difference=0', PYTHONPATH=without_onnx)
    assert done.returncode == 1
    assert done.stdout.endswith(': NOT KEPT\n')
    assert done.stderr.splitlines()[-1].startswith(f'error: {exports.output / "psenet.pb"}: scores '
                                                   'differ by more than --max_difference=0.0')
    assert (exports.output / 'psenet.pb').stat() == earlier
    assert (exports.output / 'model.json').read_text() == manifest
    assert not [name for name in os.listdir(str(exports.output)) if name.startswith('.')]


def test_ctrl_c_leaves_nothing(exports):
    output = exports.directory / 'interrupted'
    with subprocess.Popen(exports.command('tools.export', f'--output_dir={output}'),
                          env=exports.place.environment,
                          stderr=subprocess.PIPE, encoding='utf-8') as process:
        for line in process.stderr:
            if 'writing' in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.endswith('error: interrupted\n')
    assert 'Traceback' not in rest
    assert os.listdir(str(output)) == []


@pytest.mark.parametrize('argument, sentence', [
    ('--formats=caffe', '--formats=caffe must be some of frozen_graph,saved_model,onnx'),
    ('--formats=', '--formats= must be'), ('--output_dir=', '--output_dir is empty'),
    ('--max_difference=nan', '--max_difference=nan'), ('--num_images=0', '--num_images'),
    ('--test_data_path=none', 'none'), ('--checkpoint_path=none', 'no checkpoint at none'),
    ('--formats=onnx_int8', '--formats=onnx_int8 needs --calibration_data_path, a directory of'),
    ('--gt=gt.zip', '--gt is for --formats=onnx_int8'),
    ('--short_side=736', '--short_side is for --formats=onnx_int8'),
])
def test_a_mistake_is_one_sentence(project_root, argument, sentence, tmp_path):
    done = subprocess.run([sys.executable, '-m', 'tools.export', argument],
                          capture_output=True, encoding='utf-8', check=False, cwd=str(tmp_path))
    assert done.returncode == 1
    assert sentence in done.stderr
    errors = [line for line in done.stderr.splitlines() if ' INFO] ' not in line]
    assert len(errors) == 1
    assert errors[0].startswith('error: ')
    assert os.listdir(str(tmp_path)) == []


def test_every_format_can_be_asked_for():
    assert tuple(FORMATS) == export.FORMATS


def test_without_the_packages_of_onnx_it_is_said_what_to_do(exports, without_onnx):
    done = exports.export('--formats=onnx', PYTHONPATH=without_onnx)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'error: --formats=onnx needs the package onnx, which is not installed; run make '
        'setup-tools')


def test_a_model_in_eight_bits_is_kept_where_it_finds_the_same(exports):
    output = exports.directory / 'eight bits'
    done = exports.export('--formats=onnx_int8', f'--calibration_data_path={exports.images}',
                          f'--output_dir={output}')
    line = done.stdout.splitlines()[-1]
    assert line.startswith(f'onnx_int8    {output / "psenet_int8.onnx"}: ')
    hmean = float(line.split('Hmean ')[1].split()[0])
    if hmean >= 0.97:
        assert done.returncode == 0, done.stderr
        model, = json.loads((output / 'model.json').read_text())['models'].values()
        assert model['compared_with_float']['images'] == 2
        assert 'VNNI' in model['processors']
        _, boxes = exports.boxes('--engine=onnx', f'--model={output / "psenet_int8.onnx"}')
        assert any(boxes.values())
    else:
        assert done.returncode == 1
        assert 'its boxes differ too much from those of the float model; not' in done.stderr
        assert os.listdir(str(output)) == []


# What Ascend's ATC has kernels for, and what is only structure.
ATC_OPS = {'Placeholder', 'Const', 'Identity', 'Sub', 'Pad', 'Conv2D', 'BiasAdd', 'Relu', 'MaxPool',
           'Add', 'AddV2', 'ResizeNearestNeighbor', 'ResizeBilinear', 'ConcatV2', 'Sigmoid'}


def test_models_of_one_size(exports):
    output = exports.directory / 'fixed'
    done = exports.export('--input_size=128x96', f'--output_dir={output}')
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(str(output))) == [
        'model.json', 'psenet.onnx', 'psenet.onnx' + SUFFIX, 'psenet.pb', 'psenet.pb' + SUFFIX]
    graph_def = tf.GraphDef.FromString((output / 'psenet.pb').read_bytes())
    assert {node.op for node in graph_def.node} <= ATC_OPS
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
        assert graph.get_tensor_by_name('images:0').shape.as_list() == [1, 96, 128, 3]
        assert graph.get_tensor_by_name('score_maps:0').shape.as_list() == [1, 24, 32, 6]
    import onnxruntime
    session = onnxruntime.InferenceSession(str(output / 'psenet.onnx'))
    assert session.get_inputs()[0].shape == [1, 96, 128, 3]
    # Larger images are shrunk and smaller ones padded, by either engine.
    results = [exports.boxes(*options)[1] for options in (
        ('--engine=onnx', f'--model={output / "psenet.onnx"}'),
        (f'--model={output / "psenet.pb"}',))]
    assert results[0] == results[1]
    assert any(results[0].values())


@pytest.mark.parametrize(('arguments', 'words'), [
    (('--input_size=100x96',), '--input_size=100x96 must be one size'),
    (('--input_size=128x96', '--formats=saved_model'), 'not for a SavedModel'),
])
def test_sizes_that_cannot_be_are_refused(exports, arguments, words):
    done = exports.export(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
