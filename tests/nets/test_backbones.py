"""The contract that lets a backbone be swapped."""

import pytest
import tensorflow as tf

from nets.backbones import BACKBONES, get_backbone
from nets.model import model
from nets.resnet.resnet_v1 import resnet_v1_50
from utils.errors import PSENetError


def _pooling_backbone(images, weight_decay, is_training, batch_norm_decay):
    """The smallest thing that keeps the contract."""
    del weight_decay, is_training, batch_norm_decay
    return tuple(tf.nn.avg_pool2d(images, s, s, 'VALID') for s in (4, 8, 16, 32))


def test_a_backbone_is_found_by_name():
    assert get_backbone('resnet_v1_50') is resnet_v1_50


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PSENetError, match=r"unknown backbone 'resnet50'.*: resnet_v1_50"):
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


def test_a_new_entry_is_all_that_a_new_backbone_needs(monkeypatch):
    monkeypatch.setitem(BACKBONES, 'pooling', _pooling_backbone)
    with tf.Graph().as_default():
        score_maps = model(tf.zeros([2, 64, 96, 3]), backbone='pooling')
    assert score_maps.shape.as_list() == [2, 16, 24, 6]
