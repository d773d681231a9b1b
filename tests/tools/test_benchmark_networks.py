"""The benchmark's cases of networks, small."""

import os

import pytest

from tools.benchmarks import networks
from tools.benchmarks.measure import measure
from tools.benchmarks.samples import open_samples
from tools.demo_data import DatasetSpec, ensure_dataset


@pytest.fixture
def directory(tmp_path):
    """Three test images of the demo."""
    ensure_dataset(str(tmp_path), DatasetSpec(train_images=1, test_images=3, size=96))
    return str(tmp_path)


def test_eval(directory, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(networks, 'NUM_IMAGES', 2)
    scratch = tmp_path_factory.mktemp('scratch')
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with open_samples(directory) as samples, networks.open_eval(samples) as case:
        result = measure('eval', case, passes=1)
    assert result.data == f'2 images of {directory}'
    assert result.baseline == 'the network alone'
    assert result.ratio > 1
    assert result.figures['boxes_per_image'] > 0
    assert result.figures['start_up_s'] > 0
    assert [target['figure'] for target in result.targets] == ['ratio']
    assert os.listdir(str(scratch)) == []


def test_engines(tmp_path, monkeypatch, tmp_path_factory):
    for name in ('onnx', 'onnxruntime', 'tf2onnx'):
        pytest.importorskip(name)
    ensure_dataset(str(tmp_path), DatasetSpec(train_images=1, test_images=1, size=96))
    scratch = tmp_path_factory.mktemp('scratch')
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with open_samples(str(tmp_path)) as samples, networks.open_engines(samples) as case:
        result = measure('engines', case, passes=1)
    assert result.data == f'an image of {tmp_path} at 96x96'
    assert result.baseline == 'TensorFlow with the checkpoint'
    assert result.ratio > 0
    assert result.figures['frozen_graph_ratio'] > 0
    assert os.listdir(str(scratch)) == []


def test_precisions(tmp_path, monkeypatch):
    for name in ('onnx', 'onnxruntime', 'tf2onnx', 'openvino'):
        pytest.importorskip(name)
    ensure_dataset(str(tmp_path), DatasetSpec(train_images=2, test_images=1, size=320))
    with open_samples(str(tmp_path)) as samples, networks.open_precisions(samples) as case:
        result = measure('precisions', case, passes=1)
    assert result.data.startswith(f'{tmp_path} at 320x320, on ')
    assert result.figures['openvino_float32_hmean'] == 1
    assert 0 < result.figures['best_ratio'] <= 1
    assert set(result.figures) == {'best_ratio', *(
        f'{name}_{figure}' for name in networks.PRECISIONS for figure in ('ratio', 'hmean'))}
