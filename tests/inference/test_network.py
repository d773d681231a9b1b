"""The network in its session: against the reference, and with inputs of fixed sizes."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import nets.model
from inference.networks import Network, Platform
from inference.thresholds import read_thresholds
from tests.reference_rule import inputs_by_rule
from utils.errors import PSENetError

SIZES = ((64, 64), (96, 64), (96, 96))


@pytest.fixture(scope='module')
def network(checkpoint):
    """The network as GPUs and the CPU run it."""
    opened = Network(checkpoint)
    yield opened
    opened.close()


@pytest.fixture(scope='module')
def fixed(checkpoint):
    """The network for three sizes."""
    opened = Network(checkpoint, Platform(input_sizes=SIZES))
    yield opened
    opened.close()


def image_of(width, height):
    return np.random.RandomState(7).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_score_maps_equal_the_reference(network, data_dir):
    data = np.load(str(data_dir / 'reference_graph.npz'))
    seed, n, height, width = data['meta']
    images = inputs_by_rule(np.random.RandomState(seed), n, height, width).images.astype(np.uint8)
    for image, expected in zip(images, data['infer']):
        score_maps = network.score_maps(image)
        assert score_maps.dtype == np.float32
        np.testing.assert_allclose(score_maps, expected, atol=1e-4)


@pytest.mark.parametrize('size', [(96, 64), (96, 96)])
def test_an_image_of_a_fixed_size_gives_what_it_gives_without(network, fixed, size):
    image = image_of(*size)
    np.testing.assert_allclose(fixed.score_maps(image), network.score_maps(image), atol=1e-6)


def test_other_images_are_padded_and_their_maps_cut(network, fixed):
    image = image_of(64, 96)
    padded = np.concatenate([image, np.repeat(image[:, 63:], 32, axis=1)], axis=1)
    score_maps = fixed.score_maps(image)
    assert score_maps.shape == (24, 16, 6)
    np.testing.assert_allclose(score_maps, network.score_maps(padded)[:, :16], atol=1e-6)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(PSENetError, match='no-such-checkpoint'):
        Network(str(tmp_path / 'no-such-checkpoint'))


@pytest.mark.parametrize(('devices', 'platform', 'expected'), [
    (['CPU', 'XLA_CPU'], Platform(), True),
    (['CPU', 'GPU'], Platform(gpu_list='0'), False),
    (['CPU'], Platform(session_config=tf.ConfigProto()), False),
], ids=['CPU', 'GPU', 'NPU'])
def test_only_the_cpu_enlarges_last(checkpoint, monkeypatch, devices, platform, expected):
    given = []
    whole = nets.model.model

    def watched(images, **kwargs):
        given.append(kwargs['upsample_last'])
        return whole(images, **kwargs)

    monkeypatch.setattr('nets.model.model', watched)
    monkeypatch.setattr(tf.Session, 'list_devices', lambda self: [
        SimpleNamespace(device_type=name) for name in devices])
    Network(checkpoint, platform).close()
    assert given == [expected]


def test_the_detector_in_the_clone_is_a_whole_network(project_root):
    directory = project_root / 'checkpoint' / 'icdar2015'
    network = Network(str(directory))
    try:
        score_maps = network.score_maps(image_of(64, 64))
    finally:
        network.close()
    assert score_maps.shape == (16, 16, 6)
    given = read_thresholds(str(directory))
    assert given['hmean'] > 0.6
