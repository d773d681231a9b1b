"""The benchmark's case of a whole evaluation, small."""

import os

import pytest

from tools.benchmarks import eval as eval_case
from tools.benchmarks.measure import measure
from tools.benchmarks.samples import open_samples
from tools.demo_synth.dataset import DatasetSpec, ensure_dataset


@pytest.fixture
def folder(tmp_path):
    """Three test images of the demo."""
    ensure_dataset(str(tmp_path), DatasetSpec(train_images=1, test_images=3, size=96))
    return str(tmp_path)


def test_eval(folder, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(eval_case, 'NUM_IMAGES', 2)
    scratch = tmp_path_factory.mktemp('scratch')
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with open_samples(folder) as samples, eval_case.open_case(samples) as case:
        result = measure('eval', case, passes=1)
    assert result.data == f'2 images of {folder}'
    assert result.baseline == 'the network alone'
    assert result.ratio > 1
    assert result.figures['boxes_per_image'] > 0
    assert result.figures['start_up_s'] > 0
    assert [target['figure'] for target in result.targets] == ['ratio']
    assert os.listdir(str(scratch)) == []
