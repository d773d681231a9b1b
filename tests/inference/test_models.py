"""Every form of model in its engine, and what is said of a model that cannot be used."""

import os

import numpy as np
import pytest

from inference import onnx_networks
from inference.config import DetectConfig
from inference.detector import open_detector
from inference.networks import Platform, open_network
from tests.inference.tiny_models import (
    expected_score_maps,
    write_frozen_graph,
    write_onnx,
    write_saved_model,
)
from utils.errors import PSENetError

FORMS = {'frozen graph': ('tensorflow', 'tiny.pb', write_frozen_graph),
         'SavedModel': ('tensorflow', 'saved model', write_saved_model),
         'ONNX': ('onnx', 'tiny.onnx', write_onnx),
         'OpenVINO': ('openvino', 'tiny.onnx', write_onnx)}
ENGINES = pytest.mark.parametrize('form', list(FORMS))


@pytest.fixture(autouse=True)
def packages(request):
    """Without the packages of tools, what needs them is skipped."""
    for form, packages in (('ONNX', ('onnx', 'onnxruntime')), ('OpenVINO', ('onnx', 'openvino'))):
        if form in request.node.name:
            for name in packages:
                pytest.importorskip(name, reason=f'{name} is not installed; make setup-tools')


def config_of(form, directory, write=None):
    """The configuration of a run with a model, which is written first."""
    engine, name, default = FORMS[form]
    path = str(directory / name)
    (write or default)(path)
    return DetectConfig(engine=engine, model=path)


def write_text(path):
    with open(path, 'w') as file:
        file.write('no model at all')


def image_of(height, width):
    return np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)


@ENGINES
def test_a_model_runs_at_any_size_wherever_it_lies(form, tmp_path):
    directory = tmp_path / '模型 und mehr'
    directory.mkdir()
    network = open_network(config_of(form, directory))
    try:
        for shape in ((64, 96), (32, 32)):
            image = image_of(*shape)
            image.setflags(write=False)
            score_maps = network.score_maps(image)
            assert score_maps.dtype == np.float32
            np.testing.assert_allclose(score_maps, expected_score_maps(image), atol=1e-6)
    finally:
        network.close()


@ENGINES
def test_a_detector_finds_boxes_with_it(form, tmp_path):
    config = config_of(form, tmp_path)._replace(seg_map_thresh=0.5, min_area_thresh=1)
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:48, 8:40] = 255
    with open_detector(config) as detector:
        boxes = detector.detect(image).polygons
    assert np.sort(boxes, axis=1).tolist() == [[[8, 16], [8, 16], [39, 47], [39, 47]]]


@ENGINES
def test_a_missing_model_is_named(form, tmp_path):
    engine, name, _ = FORMS[form]
    with pytest.raises(PSENetError, match=f'--model=.*{name} does not exist; tools.export'):
        open_network(DetectConfig(engine=engine, model=str(tmp_path / name)))


def test_a_folder_that_is_no_saved_model_is_named(tmp_path):
    with pytest.raises(PSENetError, match=r'has no saved_model.pb; give'):
        open_network(DetectConfig(model=str(tmp_path)))


@pytest.mark.parametrize(('form', 'kind'), [
    ('frozen graph', 'frozen graph'), ('ONNX', 'ONNX model'), ('OpenVINO', 'ONNX model')])
def test_a_file_that_is_no_model_is_named(form, kind, tmp_path):
    with pytest.raises(PSENetError, match=f'is damaged or not a valid {kind}') as raised:
        open_network(config_of(form, tmp_path, write_text))
    assert '\n' not in str(raised.value)
    assert '.cpp' not in str(raised.value)


def test_a_damaged_saved_model_is_named(tmp_path):
    config = config_of('SavedModel', tmp_path)
    write_text(os.path.join(config.model, 'saved_model.pb'))
    with pytest.raises(PSENetError, match='is damaged or not a valid SavedModel'):
        open_network(config)


@pytest.mark.parametrize('form, write', [
    ('frozen graph', write_frozen_graph), ('ONNX', write_onnx), ('OpenVINO', write_onnx)])
def test_the_model_of_another_network_is_refused(form, write, tmp_path):
    with pytest.raises(PSENetError, match=r'not a PSENet model .*: it has no score_maps with 6'):
        open_network(config_of(form, tmp_path, lambda path: write(path, copies=3)))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('content', [b'', b'\x04'], ids=['empty', 'some message'])
def test_what_passes_for_a_graph_is_refused(content, tmp_path):
    def write(path):
        with open(path, 'wb') as file:
            file.write(content)

    with pytest.raises(PSENetError, match='it has no tensor images'):
        open_network(config_of('frozen graph', tmp_path, write))


def test_a_gpu_that_is_not_there_is_missed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    open_network(config_of('frozen graph', tmp_path), Platform(gpu_list='7')).close()
    assert '--gpu_list=7 requests 1 GPU(s)' in caplog.text


@pytest.mark.parametrize(('precision', 'words'), [('float32', 'in float32 on'), ('auto', 'in ')])
def test_openvino_says_what_it_computes_in(precision, words, tmp_path, caplog):
    pytest.importorskip('openvino', reason='OpenVINO is not installed; make setup-tools')
    path = write_onnx(str(tmp_path / 'tiny.onnx'))
    with caplog.at_level('INFO'), open_detector(path, engine='openvino', precision=precision):
        assert words in caplog.text


@pytest.mark.parametrize('form', ['ONNX', 'OpenVINO'])
@pytest.mark.parametrize('flags, warned', [('avx2', True), ('avx2 avx512_vnni', False)])
def test_a_model_in_eight_bits_names_its_processors(form, flags, warned, tmp_path, caplog,
                                                    monkeypatch):
    def write(path):
        import onnx
        model = onnx.load(write_onnx(path))
        model.graph.name = onnx_networks.INT8_GRAPH
        onnx.save(model, path)

    description = tmp_path / 'cpuinfo'
    description.write_text(f'processor\t: 0\nflags\t\t: fpu {flags}\n')
    config = config_of(form, tmp_path, write)
    monkeypatch.setattr(onnx_networks, 'CPUINFO', str(description))
    open_network(config).close()
    assert ('is for x86-64 processors with VNNI' in caplog.text) == warned
