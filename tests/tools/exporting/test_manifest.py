"""model.json: what is kept of earlier exports, and what is not taken for it."""

import json

import pytest

from tools.exporting.exporter import MANIFEST, read_manifest, write_manifest
from utils.errors import PSENetError


def test_it_tells_what_models_take_and_give(tmp_path):
    write_manifest(str(tmp_path), {'onnx': {'file': 'psenet.onnx'}})
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert content['input']['channels'] == 'RGB'
    assert content['input']['side_multiple'] == 32
    assert (content['output']['stride'], len(content['output']['kernel_scales'])) == (4, 6)
    assert content['models'] == {'onnx': {'file': 'psenet.onnx'}}


def test_of_earlier_models_those_that_are_there_stay(tmp_path):
    assert read_manifest(str(tmp_path)) == {}
    models = {'frozen_graph': {'bytes': 1}, 'onnx': {'bytes': 2}}
    write_manifest(str(tmp_path), models)
    (tmp_path / 'psenet.onnx').write_text('')
    assert read_manifest(str(tmp_path)) == {'onnx': {'bytes': 2}}


@pytest.mark.parametrize('text', ['', '[]', '{"models": []}', '{"layers": 3}'])
def test_a_file_of_another_program_is_left_alone(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(PSENetError, match=f'{MANIFEST} was not written by tools.export'):
        read_manifest(str(tmp_path))
