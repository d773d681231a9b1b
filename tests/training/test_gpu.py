"""Towers, scopes and warnings of GpuDevice, on a machine that need not have a GPU."""

import re
from types import SimpleNamespace

import pytest
import tensorflow as tf

from training.devices.gpu import GpuDevice
from utils.errors import PSENetError


@pytest.mark.parametrize('gpu_list, towers', [('', 1), ('3', 1), ('0,1', 2), ('4,2,7', 3)])
def test_a_tower_for_every_gpu(gpu_list, towers):
    assert GpuDevice(gpu_list).num_towers == towers


@pytest.mark.parametrize('gpu_list, index, placed', [
    ('', 0, '/device:CPU:0'), ('0', 0, '/device:GPU:0'), ('4,2', 0, '/device:GPU:0'),
    ('4,2', 1, '/device:GPU:1')])
def test_towers_are_placed_on_the_visible_gpus_in_order(gpu_list, index, placed):
    with tf.Graph().as_default(), GpuDevice(gpu_list).tower_scope(index):
        assert tf.constant(1.0).device == placed


def test_a_bad_list_is_refused():
    with pytest.raises(PSENetError, match='--gpu_list=0;1'):
        GpuDevice('0;1')


def test_one_process_that_changes_nothing():
    device = GpuDevice('0,1')
    optimizer = tf.train.AdamOptimizer()
    assert (device.rank, device.world_size, device.broadcast_op([])) == (0, 1, None)
    assert device.wrap_optimizer(optimizer) is optimizer


def test_sessions_share_the_gpu_and_fall_back_to_the_cpu():
    config = GpuDevice('0').session_config()
    assert config.allow_soft_placement
    assert config.gpu_options.allow_growth


@pytest.fixture
def found(monkeypatch):
    """found(types) makes TensorFlow see devices of these types."""
    def see(*types):
        devices = [SimpleNamespace(device_type=device_type) for device_type in types]
        monkeypatch.setattr(tf.Session, 'list_devices', lambda _: devices)
    return see


def test_fewer_gpus_than_named_are_told(found, messages):
    found('CPU', 'XLA_GPU', 'GPU')
    GpuDevice('0,1').prepare()
    assert re.match(r'--gpu_list.* 2 GPU.* TensorFlow finds 1\b', messages()[0])


@pytest.mark.parametrize('gpu_list', ['', '0', '0,1'])
def test_enough_gpus_are_no_news(found, messages, gpu_list):
    found('CPU', 'GPU', 'GPU')
    GpuDevice(gpu_list).prepare()
    assert not messages()
