"""The contract that lets a backbone be swapped."""

import pytest
import tensorflow as tf

from nets.backbones import BACKBONES, get_backbone
from nets.model import model
from training.config import BACKBONES as NAMES
from utils.errors import PSENetError


def _pooling_backbone(images, weight_decay, is_training, batch_norm_decay):
    """The smallest thing that keeps the contract."""
    del weight_decay, is_training, batch_norm_decay
    return tuple(tf.nn.avg_pool2d(images, s, s, 'VALID') for s in (4, 8, 16, 32))


def test_a_backbone_is_found_by_name():
    assert get_backbone('resnet_v1_50') is BACKBONES['resnet_v1_50']
    # The flag's, which come without TensorFlow.
    assert tuple(BACKBONES) == NAMES


def test_an_unknown_name_lists_the_known_ones():
    known = 'resnet_v1_101, resnet_v1_152, resnet_v1_50'
    with pytest.raises(PSENetError, match=f"unknown backbone 'resnet50'.*: {known}"):
        get_backbone('resnet50')


@pytest.mark.parametrize('name', sorted(BACKBONES))
def test_features_have_strides_4_8_16_32_and_known_channels(name):
    with tf.Graph().as_default():
        features = BACKBONES[name](tf.zeros([1, 64, 96, 3]), 1e-5, False, 0.997)
    assert [f.shape.as_list()[1:3] for f in features] == [[16, 24], [8, 12], [4, 6], [2, 3]]
    assert all(f.shape[-1].value for f in features)


@pytest.mark.parametrize('name', sorted(BACKBONES))
def test_weights_live_in_the_scope_of_the_backbone_s_name(name):
    with tf.Graph().as_default():
        BACKBONES[name](tf.placeholder(tf.float32, [None, None, None, 3]), 1e-5, True, 0.997)
        assert all(v.op.name.startswith(f'{name}/') for v in tf.global_variables())


def test_depths_have_slim_s_variables():
    counts = {}
    for name in BACKBONES:
        with tf.Graph().as_default():
            BACKBONES[name](tf.zeros([1, 64, 64, 3]), 1e-5, False, 0.997)
            counts[name] = sum(v.op.name.endswith('/weights') for v in tf.global_variables())
    # Three convolutions a unit, a shortcut a block, and the root.
    assert counts == {'resnet_v1_50': 53, 'resnet_v1_101': 104, 'resnet_v1_152': 155}


def test_a_new_entry_is_all_that_a_new_backbone_needs(monkeypatch):
    monkeypatch.setitem(BACKBONES, 'pooling', _pooling_backbone)
    with tf.Graph().as_default():
        score_maps = model(tf.zeros([2, 64, 96, 3]), backbone='pooling')
    assert score_maps.shape.as_list() == [2, 16, 24, 6]
