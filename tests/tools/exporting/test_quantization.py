"""The network in eight bits: what is quantized, what it gives, and what speaks for it."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation.report import Score
from inference.config import DetectConfig
from inference.networks import open_network
from inference.onnx_networks import INT8_GRAPH
from nets.model import model
from tests.small_network.sitecustomize import small_network
from tools.exporting import quantization
from tools.exporting.formats import convert_to_onnx, fold_batch_norm
from tools.exporting.quantization import Proof, Quantization, quantize, quantize_file
from utils.errors import PSENetError
from utils.image_io import write_image

onnx = pytest.importorskip('onnx', reason='onnx is not installed; run make setup-tools')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed; run make setup-tools')


def images(count=4):
    """Squares on grounds of other colours, uint8 (128, 160, 3)."""
    random_state = np.random.RandomState(5)
    drawn = []
    for _ in range(count):
        image = np.full((128, 160, 3), random_state.randint(0, 256, 3), np.uint8)
        for top, left in random_state.randint(0, 90, (4, 2)):
            image[top:top + 30, left:left + 40] = random_state.randint(0, 256, 3)
        drawn.append(image)
    return drawn


@pytest.fixture(scope='module', params=[True, False], ids=['upsampled last', 'of one size'])
def floats(request):
    """The small network, as ONNX."""
    with small_network(), tf.Graph().as_default() as graph, tf.Session() as session:
        shape = [None, None, None, 3] if request.param else [1, 128, 160, 3]
        placeholder = tf.placeholder(tf.float32, shape, name='images')
        tf.identity(model(placeholder, is_training=False, upsample_last=request.param),
                    name='score_maps')
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            if variable.op.name == 'feature_results/Conv_1/weights':
                # So that the scores are not all near 0.5.
                variable.load(0.1 * session.run(variable), session)
        return convert_to_onnx(fold_batch_norm(tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ['score_maps']), 'score_maps'))


def maps_of(content, tmp_path, engine='onnx'):
    path = tmp_path / 'model.onnx'
    path.write_bytes(content)
    network = open_network(DetectConfig(engine=engine, model=str(path)))
    try:
        return np.array([network.score_maps(image) for image in images()])
    finally:
        network.close()


def test_the_scores_stay_near_those_of_the_floats(floats, tmp_path):
    expected = maps_of(floats, tmp_path)
    assert np.ptp(expected) > 0.05
    found = maps_of(quantize(floats, images()), tmp_path)
    assert 0 < np.abs(found - expected).mean() < 0.02 * np.ptp(expected)


def test_openvino_reads_it_too(floats, tmp_path):
    pytest.importorskip('openvino', reason='OpenVINO is not installed; run make setup-tools')
    quantized = quantize(floats, images())
    np.testing.assert_allclose(maps_of(quantized, tmp_path, 'openvino'),
                               maps_of(quantized, tmp_path), rtol=0, atol=0.03)


def test_what_is_in_eight_bits(floats):
    quantized = onnx.load_from_string(quantize(floats, images()))
    kernels = {each.name: each for each in quantized.graph.initializer}
    makers = {name: node for node in quantized.graph.node for name in node.output}
    in_float = []
    for node in quantized.graph.node:
        if node.op_type != 'Conv':
            continue
        source = makers.get(node.input[1])
        if source is None:
            in_float.append(list(kernels[node.input[1]].dims))
            continue
        kernel, scale = (kernels[name] for name in source.input[:2])
        assert kernel.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [kernel.dims[0]]     # a scale for each channel
    assert sorted(dims[0] for dims in in_float) == [6, 8]
    assert [dims[1] for dims in in_float if dims[0] == 8] == [3]
    sigmoid, = [node for node in quantized.graph.node if node.op_type == 'Sigmoid']
    assert makers[sigmoid.input[0]].op_type == 'Conv'
    assert quantized.graph.name == INT8_GRAPH
    assert 'VNNI' in quantized.metadata_props[0].value
    assert quantized.opset_import[0].version == 13


def test_ranges_are_averaged_over_the_images(floats):
    graph = onnx.load_from_string(floats).graph
    tensors = quantization._tensors(graph, quantization._nodes_in_float(graph))
    drawn = images()
    together = quantization._calibrate(floats, tensors, drawn)
    alone = [quantization._calibrate(floats, tensors, [image]) for image in drawn]
    assert set(together) == set(tensors)
    for tensor, bounds in together.items():
        np.testing.assert_allclose(bounds, np.mean([each[tensor] for each in alone], axis=0),
                                   rtol=1e-5, atol=1e-6)


def score(hmean):
    return Score(hmean, hmean, hmean, 0.0)


@pytest.mark.parametrize('agreement, hmean, float_hmean, holds', [
    (0.97, None, None, True), (0.969, None, None, False), (0.99, 0.746, 0.75, True),
    (0.99, 0.744, 0.75, False), (0.99, 0.8, 0.75, True)])
def test_what_a_proof_takes(agreement, hmean, float_hmean, holds):
    scores = [score(hmean), score(float_hmean)] if hmean else []
    proof = Proof(3, score(agreement), *scores)
    assert proof.holds == holds
    assert f'Hmean {agreement:.3f} with the boxes of the float model in 3 images' in proof.line()
    assert ('ground truth' in proof.line()) == bool(hmean)
    assert proof.facts()['compared_with_float']['hmean_with_boxes_of_float'] == agreement


@pytest.fixture
def wanted(tmp_path):
    paths = {}
    for index, image in enumerate(images()):
        paths[str(index)] = str(tmp_path / f'{index}.png')
        write_image(paths[str(index)], image)
    return Quantization(DetectConfig(seg_map_thresh=0.5, min_area_thresh=1, min_box_side=1),
                        list(paths.values()), paths)


def test_the_file_is_replaced_and_compared(floats, tmp_path, wanted):
    path = tmp_path / 'model.onnx'
    path.write_bytes(floats)
    proof = quantize_file(str(path), wanted)
    assert len(path.read_bytes()) < len(floats)
    assert proof.images == 4
    assert 0 < proof.agreement.hmean <= 1
    assert proof.score is None


def test_images_without_text_prove_nothing(floats, tmp_path, wanted):
    path = tmp_path / 'model.onnx'
    path.write_bytes(floats)
    config = wanted.config._replace(min_region_area=10 ** 6)
    with pytest.raises(PSENetError, match='finds no text in the images of --test_data_path'):
        quantize_file(str(path), wanted._replace(config=config))
