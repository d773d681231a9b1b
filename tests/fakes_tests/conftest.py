"""The fake, loaded for a release and gone again after the test; configurations of sessions."""

import importlib
import json
import os
import sys

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

FAKES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'fakes')
PACKAGES = ('fake_npu', 'npu_bridge', 'hccl')
DEMANDED = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'POD_NAME', 'JOB_ID', 'DEVICE_ID',
            'ASCEND_DEVICE_ID', 'CM_WORKER_SIZE', 'CM_CHIEF_IP', 'FAKE_NPU_RECORD',
            'FAKE_NPU_OVERFLOW_STEPS', 'FAKE_NPU_SIGNAL')


def forget_packages():
    for name in [name for name in sys.modules if name.split('.')[0] in PACKAGES]:
        del sys.modules[name]


@pytest.fixture
def fake(monkeypatch):
    """fake(release): loads it; then fake.module(name) gives one of its modules."""
    for name in DEMANDED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(FAKES)
    forget_packages()

    def load(release='development'):
        monkeypatch.setenv('FAKE_NPU_RELEASE', release)
        importlib.import_module('npu_bridge')
        return load
    load.module = importlib.import_module
    with tf.Graph().as_default():
        yield load
    if 'fake_npu.session' in sys.modules:
        sys.modules['fake_npu.session'].uninstall()
    forget_packages()


def npu_config(**fields):
    """A right configuration with further entries, precision_mode='s:force_fp16' for the field s."""
    config = tf.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = rewrite.memory_optimization = RewriterConfig.OFF
    parameters = rewrite.custom_optimizers.add(name='NpuOptimizer').parameter_map
    for key, (field, value) in fields.items():
        setattr(parameters[key], field, value)
    return config


@pytest.fixture
def record(tmp_path, monkeypatch, fake):
    """record(event): the recorded events of that name."""
    path = tmp_path / 'record.jsonl'
    monkeypatch.setenv('FAKE_NPU_RECORD', str(path))

    def read(event):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in lines if line['event'] == event]
    return read
