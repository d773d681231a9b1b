"""The benchmark's cases of training data, small; and what it knows of processes."""

import os
import subprocess
import sys
import time

import pytest

from tools.benchmarks import batches as cases
from tools.benchmarks.measure import children, cpu_seconds, measure, resident_mb
from tools.benchmarks.samples import open_samples
from tools.demo_data import DatasetSpec, ensure_dataset


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Four training images of the demo."""
    path = tmp_path_factory.mktemp('samples')
    ensure_dataset(str(path), DatasetSpec(train_images=4, test_images=1, size=96))
    return str(path)


def test_reader(directory, monkeypatch):
    for name, value in (('BATCH_SIZE', 2), ('INPUT_SIZE', 32), ('BATCHES_A_PASS', 3),
                        ('_THRESHOLDS', {})):
        monkeypatch.setattr(cases, name, value)
    before = set(children())
    with open_samples(directory) as samples, cases.open_reader(samples) as case:
        result = measure('reader', case, passes=2)
    assert set(children()) <= before
    assert result.data == f'4 images of {directory}, 2 readers, batches of 2 at 32'
    assert result.baseline == 'cv2.imdecode'
    assert result.ratio > 0
    # Six passes, four of them to warm up, of two batches that were waiting and three.
    assert result.figures['batches'] == 30
    assert result.figures['resident_mb'] > 10
    assert result.figures['growth_mb'] >= 0
    assert [target['figure'] for target in result.targets] == ['ratio', 'growth_mb']


def test_loop(directory, monkeypatch):
    monkeypatch.setattr(cases, 'CONFIG', cases.CONFIG._replace(input_size=64, batch_size_per_gpu=2))
    monkeypatch.setattr(cases, 'STEPS_A_PASS', 2)
    monkeypatch.setattr(cases, 'STEP_SECONDS', 0.001)
    with open_samples(directory) as samples, cases.open_loop(samples) as case:
        result = measure('loop', case, passes=2)
    # Two pictures of 64 x 64 x 3, and seven maps of 16 x 16 for each.
    assert result.figures['handed_over_mb'] == 2 * (64 * 64 * 3 + 16 * 16 * 7) / 1e6
    assert 0 < result.figures['data_wait_percent'] < 100
    assert result.median_ms >= 1
    assert result.baseline_ms >= 1


def test_processes():
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    try:
        assert child.pid in children()
        assert resident_mb([os.getpid()]) > 1
    finally:
        child.communicate(b'\n')
    least = time.process_time()
    used = cpu_seconds([os.getpid()])
    assert least <= used <= time.process_time()


def test_a_process_that_has_ended_is_no_child():
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    assert child.pid not in children()
