"""The session configuration that training and detection share, and the adapter loaded for it."""

import sys

import pytest

from tests.training.npu_on_path import fake_npu_bridge
from training.devices.npu.session import check_installed, inference_session_config, session_config
from utils.errors import PSENetError


def parameters(config):
    """{key: (field, value)} of the one NpuOptimizer."""
    optimizer, = config.graph_options.rewrite_options.custom_optimizers
    return {key: (value.WhichOneof('value'), getattr(value, value.WhichOneof('value')))
            for key, value in optimizer.parameter_map.items()}


def test_detection_differs_from_training_in_the_run_mode_alone():
    with fake_npu_bridge():
        inference = inference_session_config({'precision_mode': 'force_fp32'})
        assert 'npu_bridge.estimator.npu_ops' in sys.modules
    assert parameters(inference) == {
        'use_off_line': ('b', True), 'precision_mode': ('s', b'force_fp32'),
        'graph_run_mode': ('i', 0)}
    optimizer, = inference.graph_options.rewrite_options.custom_optimizers
    del optimizer.parameter_map['graph_run_mode']
    assert inference == session_config({'precision_mode': 'force_fp32'})


def test_the_sentence_about_a_missing_adapter_ends_with_what_it_is_needed_for():
    with pytest.raises(PSENetError, match=r'npu_bridge, .* is not installed .*, and so it is\.$'):
        check_installed('so it is.')
    with fake_npu_bridge():
        check_installed('so it is.')


def test_an_adapter_without_its_libraries_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / 'npu_bridge').mkdir()
    (tmp_path / 'npu_bridge' / '__init__.py').write_text('npu_bridge_handle.init()\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PSENetError, match=r"cannot be loaded \(name 'npu_bridge_handle'.*set_env"):
        inference_session_config({})
