"""Batch k is a function of seed and k; bad files are named once and move nothing."""

import numpy as np
import pytest

from utils.data_provider import batching
from utils.data_provider.augment import half_is_enough, render_sample
from utils.data_provider.batching import BatchBuilder, BatchLayout, BatchOptions
from utils.data_provider.datasets import load_dataset
from utils.image_io import read_image

OPTIONS = BatchOptions(input_size=32, batch_size=4, seed=7, min_crop_side_ratio=0.1)


@pytest.fixture
def samples(make_folder):
    """Ten samples with a region each."""
    return load_dataset(str(make_folder(10)))[0]


def _make(build, number, batch_size=OPTIONS.batch_size):
    """The report and the arrays of a batch, in memory that held something else before."""
    arrays = BatchLayout(batch_size, OPTIONS.input_size).allocate()
    for array in arrays:
        array[:] = 7
    return build(number, arrays), arrays


def _same(one, other):
    return (one[0].indices == other[0].indices
            and all(np.array_equal(*arrays) for arrays in zip(one[1], other[1])))


def test_a_batch_does_not_depend_on_those_before(samples):
    straight = BatchBuilder(samples, OPTIONS)
    batches = [_make(straight, number) for number in range(6)]
    jumping = BatchBuilder(samples, OPTIONS)
    for number in (4, 1, 5, 0):
        assert _same(_make(jumping, number), batches[number])


def test_batches_and_seeds_differ(samples):
    build = BatchBuilder(samples, OPTIONS)
    assert not _same(_make(build, 0), _make(build, 1))
    other = BatchBuilder(samples, OPTIONS._replace(seed=8))
    assert not _same(_make(build, 0), _make(other, 0))


def test_every_epoch_has_every_image_in_an_order_of_its_own(samples, monkeypatch):
    # A crop is always to be had: then each position takes the image that the order gives it.
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    build = BatchBuilder(samples, OPTIONS._replace(batch_size=5))
    drawn = [index for number in range(6) for index in _make(build, number, 5)[0].indices]
    epochs = [drawn[start:start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_two_processes_have_an_image_of_an_epoch_in_common(samples, monkeypatch):
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    shares = [BatchBuilder(samples, OPTIONS._replace(batch_size=1, rank=rank, world_size=5))
              for rank in range(5)]
    # Ten images, five a batch: two batches an epoch.
    drawn = [{_make(build, number, 1)[0].indices[0] for number in (0, 1)} for build in shares]
    assert set.union(*drawn) == set(range(10))
    assert sum(map(len, drawn)) == 10


def test_colours_are_red_first(samples, monkeypatch):
    monkeypatch.setattr(batching, 'read_image', lambda path, halved, *_: np.full(
        (32, 48, 3) if halved else (64, 96, 3), (1, 2, 3), 'u1'))
    assert (_make(BatchBuilder(samples, OPTIONS), 0)[1].images == (3, 2, 1)).all()


def test_targets_are_every_fourth_pixel_of_the_maps(samples, monkeypatch):
    rng = np.random.RandomState(0)
    maps, mask = rng.randint(0, 2, (32, 32, 6)), rng.randint(0, 2, (32, 32))
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    monkeypatch.setattr(batching, 'generate_seg', lambda *args: (maps, mask))
    _, arrays = _make(BatchBuilder(samples, OPTIONS), 0)
    assert [array.shape for array in arrays] == [(4, 32, 32, 3), (4, 8, 8, 6), (4, 8, 8, 1)]
    assert all((each == maps[::4, ::4]).all() for each in arrays.seg_maps)
    assert all((each[..., 0] == mask[::4, ::4]).all() for each in arrays.training_masks)


def test_background_has_no_kernels_and_hides_nothing(samples, monkeypatch):
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 1)
    _, arrays = _make(BatchBuilder(samples, OPTIONS), 0)
    assert not arrays.seg_maps.any()
    assert arrays.training_masks.all()


def test_no_pixels_are_read_for_a_draw_that_is_given_up(samples, monkeypatch):
    reads = []
    monkeypatch.setattr(batching, 'read_image',
                        lambda *args: reads.append(args) or read_image(*args))
    build = BatchBuilder(samples, OPTIONS)
    reports = [_make(build, number)[0] for number in range(5)]
    assert len(reads) == 20
    assert sum(report.skipped_draws for report in reports) > 0


def test_bad_files_are_named_once_and_do_not_move_the_draws(samples):
    with open(samples[3].image_path, 'r+b') as stream:
        stream.truncate(60)
    with open(samples[5].image_path, 'wb'):
        pass
    build = BatchBuilder(samples, OPTIONS)
    batches = [_make(build, number) for number in range(8)]
    named = [index for report, _ in batches for index in report.unreadable]
    assert sorted(named) == [3, 5]
    assert not any({3, 5} & set(report.indices) for report, _ in batches)
    fresh = _make(BatchBuilder(samples, OPTIONS), 7)
    assert _same(fresh, batches[7])


def test_an_image_of_another_size_than_at_the_start_is_bad(samples):
    changed = [sample._replace(size=(64, 97)) for sample in samples[:1]] + samples[1:]
    build = BatchBuilder(changed, OPTIONS)
    messages = [text for number in range(8)
                for text in _make(build, number)[0].unreadable.values()]
    assert len(messages) == 1
    assert 'has changed since the start' in messages[0]


def test_a_position_that_finds_nothing_ends_the_batch(samples, monkeypatch):
    # Text crops of images without text are not to be had.
    bare = [sample._replace(polygons=[], ignore_tags=np.zeros(0, np.bool_)) for sample in samples]
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    report, _ = _make(BatchBuilder(bare, OPTIONS), 0)
    assert report.indices == []
    assert report.skipped_draws == batching.MAX_DRAWS


def test_plans_tell_how_each_sample_was_made(samples):
    arrays = OPTIONS.layout.allocate()
    report, plans = BatchBuilder(samples, OPTIONS).with_plans(3, arrays)
    assert _same((report, arrays), _make(BatchBuilder(samples, OPTIONS), 3))
    assert len(plans) == len(report.indices)
    for index, plan, picture in zip(report.indices, plans, arrays.images):
        rendered = render_sample(read_image(samples[index].image_path), plan, OPTIONS.input_size)
        if not half_is_enough(samples[index].size, plan):
            np.testing.assert_array_equal(picture, rendered[..., ::-1])


@pytest.mark.parametrize('layout', [BatchLayout(1, 32), BatchLayout(3, 96), BatchLayout(14, 512)])
def test_arrays_fill_the_memory_and_begin_at_multiples_of_64(layout):
    memory = np.zeros(layout.num_bytes, np.uint8)
    arrays = layout.place(memory)
    begins = [array.ctypes.data - memory.ctypes.data for array in arrays]
    ends = [begin + array.nbytes for begin, array in zip(begins, arrays)]
    assert begins == [0, *ends[:-1]]
    assert ends[-1] == layout.num_bytes
    assert not any(begin % 64 for begin in [*begins, layout.num_bytes])


def test_a_batch_of_14_at_512_takes_less_than_13_megabytes():
    assert BatchLayout(14, 512).num_bytes == 12615680


def test_arrays_are_allocated_in_these_shapes():
    images, seg_maps, masks = BatchLayout(3, 64).allocate()
    assert (images.shape, seg_maps.shape, masks.shape) == (
        (3, 64, 64, 3), (3, 16, 16, 6), (3, 16, 16, 1))
    assert {array.dtype for array in (images, seg_maps, masks)} == {np.dtype(np.uint8)}


def test_sets_of_a_mixture_have_their_shares_and_their_own_epochs(samples, monkeypatch):
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 0)
    build = BatchBuilder(samples, OPTIONS._replace(batch_size=50), shares=[(3, 0.1), (7, 0.9)])
    drawn = [index for number in range(20) for index in _make(build, number, 50)[0].indices]
    first = [index for index in drawn if index < 3]
    rest = [index for index in drawn if index >= 3]
    assert (len(first), len(rest)) == (100, 900)
    for indices, members in ((first, range(3)), (rest, range(3, 10))):
        size = len(members)
        assert all(sorted(indices[start:start + size]) == list(members)
                   for start in range(0, len(indices) - size, size))
    # The sets are mixed, and not one behind the other.
    assert any(index < 3 for index in drawn[:100])
    again = BatchBuilder(samples, OPTIONS._replace(batch_size=50), shares=[(3, 0.1), (7, 0.9)])
    assert _make(again, 7, 50)[0].indices == drawn[350:400]
