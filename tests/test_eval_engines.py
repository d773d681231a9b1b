"""eval.py with exported models, as a person runs it; the models are tiny."""

import json
import subprocess
import sys

import numpy as np
import pytest

from inference.results import read_result
from inference.thresholds import SUFFIX
from tests.inference.tiny_models import write_frozen_graph, write_onnx
from utils.files import file_digest
from utils.image_io import write_image

# Runs eval.py and says whether TensorFlow came with it.
WATCHED = """
import runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print('with TensorFlow' if 'tensorflow' in sys.modules else 'without TensorFlow')
"""
BOXES = [[8, 16, 39, 47]]
SENSITIVE = ('--seg_map_thresh=0.5', '--no_write_images')


class Place:
    """An image, and models that find a box in it."""

    def __init__(self, root, directory):
        self.root = root
        self.directory = directory
        (directory / '图 片').mkdir()
        image = np.zeros((64, 64, 3), np.uint8)
        image[16:48, 8:40] = 255
        write_image(str(directory / '图 片' / 'img_1.png'), image)

    def evaluate(self, *arguments):
        """Runs the script to its end, with TensorFlow looked out for."""
        program = f'import sys; sys.argv[0] = {str(self.root / "eval.py")!r}\n{WATCHED}'
        return subprocess.run(
            [sys.executable, '-c', program, f'--test_data_path={self.directory / "图 片"}',
             f'--output_dir={self.directory / "out"}', *arguments],
            capture_output=True, encoding='utf-8', check=False, cwd=str(self.root))

    def boxes(self):
        """The boxes, as their ranges of x and y."""
        boxes = read_result(str(self.directory / 'out' / 'res_img_1.txt'))
        return [[*box.min(axis=0).tolist(), *box.max(axis=0).tolist()] for box in boxes]


@pytest.fixture
def place(project_root, tmp_path):
    return Place(project_root, tmp_path)


@pytest.fixture
def onnx_model(place):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name)
    return write_onnx(str(place.directory / 'model.onnx'))


def test_onnx_runtime_needs_no_tensorflow(place, onnx_model):
    result = place.evaluate('--engine=onnx', f'--model={onnx_model}', *SENSITIVE)
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'without TensorFlow\n'
    assert place.boxes() == BOXES


def test_the_thresholds_beside_a_model_are_followed_and_those_of_another_are_not(
        place, onnx_model):
    content = {'model': 'model.onnx', 'fingerprint': file_digest(onnx_model),
               'seg_map_thresh': 0.5, 'min_area_thresh': 2, 'min_box_side': 33}
    for fingerprint, found, said in ((content['fingerprint'], [], ': --seg_map_thresh=0.5'),
                                     ('0' * 32, BOXES, 'is for another model of the same name')):
        with open(onnx_model + SUFFIX, 'w') as file:
            json.dump(dict(content, fingerprint=fingerprint), file)
        result = place.evaluate('--engine=onnx', f'--model={onnx_model}')
        assert result.returncode == 0, result.stderr
        assert said in result.stderr
        assert place.boxes() == found


def test_a_frozen_graph_takes_the_place_of_the_checkpoint_and_it_is_said(place):
    model = write_frozen_graph(str(place.directory / '模 型.pb'))
    result = place.evaluate(f'--model={model}', '--gpu_list=', '--checkpoint_path=none', *SENSITIVE)
    assert result.returncode == 0, result.stderr
    assert f'using --model={model} instead of the checkpoint' in result.stderr
    assert place.boxes() == BOXES


@pytest.mark.parametrize('arguments, sentence', [
    (('--engine=onnx',), '--engine=onnx needs --model'),
    (('--engine=onnx', '--model=none.onnx'), '--model=none.onnx does not exist'),
    (('--engine=onnx', '--model=README.md'), '--engine=onnx needs an .onnx file'),
    (('--engine=onnx', '--model=none.onnx', '--gpu_list=0'), '--gpu_list=0 has no effect with'),
    (('--model=none.onnx',), '--model=none.onnx is for --engine=onnx or openvino; give one of'),
    (('--model=none.pb', '--platform=npu'), 'cannot be used with --platform=npu'),
    (('--model=none.pb',), '--model=none.pb does not exist'),
    (('--engine=caffe',), 'engine'),
])
def test_a_mistake_is_one_sentence_and_needs_no_tensorflow(place, arguments, sentence):
    result = place.evaluate(*arguments)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
    assert result.stdout == 'without TensorFlow\n'
    assert not (place.directory / 'out').exists()


def test_without_onnx_runtime_it_is_said_what_to_do(place, tmp_path, monkeypatch):
    (tmp_path / 'onnxruntime.py').write_text('raise ModuleNotFoundError(name="onnxruntime")')
    (tmp_path / 'model.onnx').write_bytes(b'')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    result = place.evaluate('--engine=onnx', f'--model={tmp_path / "model.onnx"}')
    assert result.returncode == 1
    assert result.stderr == ('error: --engine=onnx needs the package onnxruntime, which is not '
                             'installed; run make setup-tools\n')
