"""The benchmark's case of the engines, small."""

import os

import pytest

from tools.benchmarks import engines
from tools.benchmarks.measure import measure
from tools.benchmarks.samples import open_samples
from tools.demo_synth.dataset import DatasetSpec, ensure_dataset


def test_engines(tmp_path, monkeypatch, tmp_path_factory):
    for name in ('onnx', 'onnxruntime', 'tf2onnx'):
        pytest.importorskip(name)
    ensure_dataset(str(tmp_path), DatasetSpec(train_images=1, test_images=1, size=96))
    scratch = tmp_path_factory.mktemp('scratch')
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with open_samples(str(tmp_path)) as samples, engines.open_case(samples) as case:
        result = measure('engines', case, passes=1)
    assert result.data == f'an image of {tmp_path} at 96x96'
    assert result.baseline == 'TensorFlow with the checkpoint'
    assert result.ratio > 0
    assert result.figures['frozen_graph_ratio'] > 0
    assert os.listdir(str(scratch)) == []
