"""Batch k is a function of seed and k; packing loses nothing; bad files are named once."""

import numpy as np
import pytest

from utils.data_provider import batching
from utils.data_provider.batching import (
    BatchBuilder,
    BatchOptions,
    pack_targets,
    unpack_targets,
)
from utils.data_provider.datasets import load_dataset
from utils.data_provider.targets import generate_seg
from utils.image_io import read_image

OPTIONS = BatchOptions(input_size=32, batch_size=4, seed=7, min_crop_side_ratio=0.1)


@pytest.fixture
def samples(make_folder):
    """Ten samples with a region each."""
    return load_dataset(str(make_folder(10)))[0]


def _same(one, other):
    return (one.indices == other.indices and np.array_equal(one.images, other.images)
            and np.array_equal(one.targets, other.targets))


def test_packing_and_unpacking():
    rng = np.random.RandomState(0)
    seg_maps = rng.randint(0, 2, (5, 7, 6)).astype(np.uint8)
    mask = rng.randint(0, 2, (5, 7)).astype(np.uint8)
    packed = pack_targets(seg_maps, mask)
    assert (packed.shape, packed.dtype) == ((5, 7), np.uint8)
    maps_back, mask_back = unpack_targets(packed)
    np.testing.assert_array_equal(maps_back, seg_maps)
    np.testing.assert_array_equal(mask_back, mask[..., np.newaxis])
    assert pack_targets(np.eye(6, dtype=np.uint8), np.zeros(6, np.uint8)).tolist() == [
        1, 2, 4, 8, 16, 32]


def test_a_batch_does_not_depend_on_those_before(samples):
    straight = BatchBuilder(samples, OPTIONS)
    batches = [straight(number) for number in range(6)]
    jumping = BatchBuilder(samples, OPTIONS)
    for number in (4, 1, 5, 0):
        assert _same(jumping(number), batches[number])


def test_batches_and_seeds_differ(samples):
    build = BatchBuilder(samples, OPTIONS)
    assert not _same(build(0), build(1))
    assert not _same(build(0), BatchBuilder(samples, OPTIONS._replace(seed=8))(0))


def test_every_epoch_has_every_image_in_an_order_of_its_own(samples, monkeypatch):
    # A crop is always to be had: then each position takes the image that the order gives it.
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    build = BatchBuilder(samples, OPTIONS._replace(batch_size=5))
    drawn = [index for number in range(6) for index in build(number).indices]
    epochs = [drawn[start:start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_two_processes_have_an_image_of_an_epoch_in_common(samples, monkeypatch):
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    shares = [BatchBuilder(samples, OPTIONS._replace(batch_size=1, rank=rank, world_size=5))
              for rank in range(5)]
    # Ten images, five a batch: two batches an epoch.
    drawn = [{build(number).indices[0] for number in (0, 1)} for build in shares]
    assert set.union(*drawn) == set(range(10))
    assert sum(map(len, drawn)) == 10


def test_colours_are_red_first(samples, monkeypatch):
    monkeypatch.setattr(batching, 'read_image', lambda path: np.full((64, 96, 3), (1, 2, 3), 'u1'))
    assert (BatchBuilder(samples, OPTIONS)(0).images == (3, 2, 1)).all()


def test_targets_are_every_fourth_pixel_of_the_maps(samples, monkeypatch):
    drawn = []

    def remember(*args):
        drawn.append(generate_seg(*args))
        return drawn[-1]
    monkeypatch.setattr(batching, 'generate_seg', remember)
    batch = BatchBuilder(samples, OPTIONS)(0)
    seg_maps, masks = unpack_targets(batch.targets)
    assert batch.images.shape == (4, 32, 32, 3)
    assert seg_maps.shape == (4, 8, 8, 6)
    for (full_maps, full_mask), quarter_maps, quarter_mask in zip(drawn, seg_maps, masks):
        np.testing.assert_array_equal(quarter_maps, full_maps[::4, ::4])
        np.testing.assert_array_equal(quarter_mask[..., 0], full_mask[::4, ::4])


def test_no_pixels_are_read_for_a_draw_that_is_given_up(samples, monkeypatch):
    reads = []
    monkeypatch.setattr(batching, 'read_image',
                        lambda path: reads.append(path) or read_image(path))
    build = BatchBuilder(samples, OPTIONS)
    batches = [build(number) for number in range(5)]
    assert len(reads) == 20
    assert sum(batch.report.skipped_draws for batch in batches) > 0


def test_bad_files_are_named_once_and_do_not_move_the_draws(samples):
    with open(samples[3].image_path, 'r+b') as stream:
        stream.truncate(60)
    with open(samples[5].image_path, 'wb'):
        pass
    build = BatchBuilder(samples, OPTIONS)
    batches = [build(number) for number in range(8)]
    named = [index for batch in batches for index in batch.report.unreadable]
    assert sorted(named) == [3, 5]
    assert not any({3, 5} & set(batch.indices) for batch in batches)
    fresh = BatchBuilder(samples, OPTIONS)(7)
    assert _same(fresh, batches[7])


def test_an_image_of_another_size_than_at_the_start_is_bad(samples):
    changed = [sample._replace(size=(64, 97)) for sample in samples[:1]] + samples[1:]
    build = BatchBuilder(changed, OPTIONS)
    messages = [text for number in range(8) for text in build(number).report.unreadable.values()]
    assert len(messages) == 1
    assert 'no longer of the size' in messages[0]


def test_a_position_that_finds_nothing_ends_the_batch(samples, monkeypatch):
    # Text crops of images without text are not to be had.
    bare = [sample._replace(polygons=[], ignore_tags=np.zeros(0, np.bool_)) for sample in samples]
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    batch = BatchBuilder(bare, OPTIONS)(0)
    assert batch.indices == ()
    assert batch.images.shape == (0, 32, 32, 3)
    assert batch.report.skipped_draws == batching.MAX_DRAWS
