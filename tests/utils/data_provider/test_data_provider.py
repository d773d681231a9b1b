"""get_batch: the same batches whoever makes them, and one sentence when it cannot go on."""

import gc
import itertools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from process_probe import children, is_alive

from utils.data_provider import data_provider, readers
from utils.data_provider.data_provider import get_batch
from utils.data_provider.datasets import DatasetCounts
from utils.data_provider.readers import WorkerError
from utils.errors import PSENetError

SMALL = {'input_size': 32, 'batch_size': 3}


@pytest.fixture
def inline(monkeypatch):
    """Batches are made in this process, where no processes are the point."""
    class InlinePool:
        def __init__(self, build, layout, num_workers, first=0):
            self._build, self._layout, self._numbers = build, layout, itertools.count(first)

        def get(self):
            arrays = self._layout.allocate()
            return self._build(next(self._numbers), arrays), arrays

        def close(self):
            pass
    monkeypatch.setattr(data_provider, 'WorkerPool', InlinePool)


def _take(directory, count, **kwargs):
    with get_batch(str(directory), **{'num_workers': 1, **SMALL, **kwargs}) as batches:
        return list(itertools.islice(batches, count))


def _assert_same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others):
        assert one[1] == other[1]
        for array, expected in zip(one[::2] + one[3:], other[::2] + other[3:]):
            np.testing.assert_array_equal(array, expected)


def test_what_a_batch_is(make_folder):
    directory = make_folder(4)
    (images, paths, seg_maps, masks), = _take(directory, 1, seed=1)
    assert (images.shape, images.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (seg_maps.shape, seg_maps.dtype) == ((3, 8, 8, 6), np.uint8)
    assert (masks.shape, masks.dtype) == ((3, 8, 8, 1), np.uint8)
    assert images.max() > 1
    assert set(np.unique(seg_maps)) | set(np.unique(masks)) <= {0, 1}
    assert len(paths) == 3
    assert all(os.path.dirname(path) == str(directory) for path in paths)
    assert all(array.flags.writeable for array in (images, seg_maps, masks))


@pytest.mark.parametrize('num_workers', [2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(make_folder, num_workers):
    directory = make_folder(5)
    _assert_same(_take(directory, 7, seed=11),
                 _take(directory, 7, seed=11, num_workers=num_workers))


def test_a_run_goes_on_where_it_stopped(make_folder):
    directory = make_folder(5)
    straight = _take(directory, 7, seed=11, num_workers=2)
    _assert_same(straight[3:], _take(directory, 4, seed=11, first_batch=3, num_workers=2))


def test_batches_do_not_depend_on_the_cache(make_folder):
    directory = make_folder(5, size=(360, 384))
    expected = _take(directory, 7, seed=11)
    # Room for some images in each reader, and for all of them.
    for megabytes in (1, 100):
        _assert_same(expected, _take(directory, 7, seed=11, num_workers=2,
                                     cache_images_mb=megabytes))


def test_seeds(make_folder, inline, warnings):
    directory = make_folder(5)
    with pytest.raises(AssertionError):
        _assert_same(_take(directory, 1, seed=1), _take(directory, 1, seed=2))
    _assert_same(_take(directory, 1, seed=2 ** 32 - 1), _take(directory, 1, seed=2 ** 32 - 1))
    drawn = [get_batch(str(directory), num_workers=1, **SMALL).seed for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert str(drawn[0]) in warnings.text


@pytest.mark.parametrize('world_size', [2, 3])
def test_processes_together_see_what_one_with_their_batch_sees(make_folder, inline, world_size):
    directory = make_folder(8)
    whole = _take(directory, 6, seed=5, batch_size=2 * world_size)
    shares = [_take(directory, 6, seed=5, batch_size=2, rank=rank, world_size=world_size)
              for rank in range(world_size)]
    joined = [tuple(np.concatenate(parts) for parts in zip(*batch)) for batch in zip(*shares)]
    _assert_same(whole, [(images, list(paths), *targets) for images, paths, *targets in joined])


def test_processes_without_a_seed_share_one(make_folder, inline, warnings):
    directory = make_folder(8)
    shares = [get_batch(str(directory), 1, **SMALL, rank=rank, world_size=2) for rank in range(2)]
    assert [share.seed for share in shares] == [0, 0]
    assert 'seed of the training data is 0, the default for 2 processes' in warnings.text
    _assert_same([next(shares[1])], _take(directory, 1, seed=0, rank=1, world_size=2))


def test_the_iterator_tells_where_it_stands(make_folder, inline):
    with get_batch(str(make_folder(4)), num_workers=1, **SMALL, seed=11,
                   first_batch=5) as batches:
        assert batches.next_batch == 5
        assert iter(batches) is batches
        for _ in range(4):
            next(batches)
        assert batches.next_batch == 9
        assert batches.counts.skipped_draws > 0
        assert batches.counts._replace(skipped_draws=0) == DatasetCounts(4, 4, 4, 4, 4)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize(('argument', 'message'), [
    ({'input_size': 500}, '--input_size=.* must be a positive multiple of 32'),
    ({'input_size': 0}, '--input_size'),
    ({'batch_size': 0}, 'batch size must be at least 1'),
    ({'num_workers': 0}, 'number of readers must be at least 1'),
    ({'first_batch': -1}, 'first batch'),
    ({'seed': -1}, '--seed'),
    ({'seed': 2 ** 32}, '--seed'),
    ({'min_crop_side_ratio': 1.5}, '--min_crop_side_ratio'),
    ({'min_crop_side_ratio': float('nan')}, '--min_crop_side_ratio'),
    ({'dataset': 'none'}, '--dataset=none is unknown'),
    ({'cache_images_mb': -1}, 'cache of images must be at least 0'),
    ({'max_image_pixels': 0}, 'limit of pixels must be at least 1'),
    ({'world_size': 0}, 'number of processes must be at least 1'),
    ({'rank': 1}, r'rank must lie in 0 \.\. 0, not 1'),
    ({'rank': -1, 'world_size': 2}, r'rank must lie in 0 \.\. 1, not -1'),
    ({'world_size': 2}, r'fewer usable images than a batch of 6 \(2 processes x 3\)'),
])
def test_arguments_that_cannot_work(make_folder, argument, message):
    with pytest.raises(PSENetError, match=message):
        _take(make_folder(4), 1, **argument)


def _no_images(directory):
    for path in directory.iterdir():
        path.unlink()


def _no_labels(directory):
    for path in directory.glob('*.txt'):
        path.unlink()


def _all_ignored(directory):
    for path in directory.glob('*.txt'):
        path.write_text('10,10,60,12,58,40,12,38,###')


def _too_few(directory):
    for number in (1, 2):
        (directory / f'img_{number}.png').write_bytes(b'')


@pytest.mark.parametrize(('spoil', 'message'), [
    (_no_images, r'contains no jpg.*\(0 images, 0 labels'),
    (_no_labels, r'contains no label file.*\(4 images, 0 labels, 0 pairs'),
    (_all_ignored, r'0 usable regions.*\(4 images.* 4 ignored, 0 invalid, 0 usable regions\)'),
    (_too_few, r'fewer usable images than a batch of 3.*2 unreadable, 2 usable images'),
])
def test_data_that_is_bad_as_a_whole_stops_before_any_process(make_folder, spoil, message):
    directory = make_folder(4)
    spoil(directory)
    before = children()
    with pytest.raises(PSENetError, match=message):
        _take(directory, 1)
    assert children() == before


def _truncate(directory, *numbers):
    for number in numbers:
        with open(str(directory / f'img_{number}.png'), 'r+b') as stream:
            stream.truncate(60)


@pytest.mark.parametrize('num_workers', [1, 3])
def test_an_image_found_broken_costs_one_warning_and_a_count(make_folder, warnings, num_workers):
    directory = make_folder(6)
    _truncate(directory, 2, 4)
    with get_batch(str(directory), num_workers=num_workers, seed=3, **SMALL) as batches:
        used = {os.path.basename(path) for batch in itertools.islice(batches, 9)
                for path in batch[1]}
        assert (batches.counts.unreadable, batches.counts.usable_images) == (2, 4)
    assert used == {f'img_{number}.png' for number in (1, 3, 5, 6)}
    messages = [record.getMessage() for record in warnings.records]
    assert [sum(f'img_{number}.png' in text for text in messages) for number in (2, 4)] == [1, 1]


def test_too_few_images_left_stop_the_run_with_the_counts(make_folder):
    directory = make_folder(6)
    _truncate(directory, 1, 2, 3, 4)
    with pytest.raises(PSENetError, match=r'batch of 3 .* unreadable, 2 usable images'):
        _take(directory, 50, seed=0)


def test_no_image_left_stops_the_run_with_the_counts(make_folder, inline):
    directory = make_folder(6)
    _truncate(directory, 1, 2, 3, 4, 5, 6)
    with pytest.raises(PSENetError, match='6 unreadable, 0 usable images'):
        _take(directory, 1)


def test_draws_that_all_fail_stop_the_run_with_the_counts(make_folder, inline, monkeypatch):
    monkeypatch.setattr('utils.data_provider.augment.BACKGROUND_SHARE', 1)
    directory = make_folder(4, '0,0,95,0,95,63,0,63,all of it')
    with pytest.raises(PSENetError, match=r'100 consecutive draws .* batch 0 \(4 images'):
        _take(directory, 1)


def test_no_more_workers_than_are_of_use(make_folder, monkeypatch):
    monkeypatch.setattr(data_provider, 'MAX_WORKERS', 2)
    before = children()
    with get_batch(str(make_folder(3)), num_workers=32, **SMALL):
        assert len(children() - before) == 2
    assert children() == before


def test_a_killed_worker_changes_nothing(make_folder):
    before = children()
    directory = make_folder(3)
    with get_batch(str(directory), num_workers=3, seed=1, **SMALL) as batches:
        taken = [next(batches)]
        os.kill(min(children() - before), signal.SIGKILL)
        taken += itertools.islice(batches, 8)
    _assert_same(taken, _take(directory, 9, seed=1))
    assert children() == before


def test_a_worker_that_ends_ends_the_iterator_and_the_others(make_folder, monkeypatch):
    # Once its job has come: one that ends before that ends get_batch.
    monkeypatch.setattr(readers, '_BOOTSTRAP',
                        'import os, sys; os.read(int(sys.argv[1]), 1); sys.exit(9)')
    before = children()
    batches = get_batch(str(make_folder(3)), num_workers=3, **SMALL)
    with pytest.raises(WorkerError, match='with code 9'):
        next(batches)
    assert children() == before
    with pytest.raises(StopIteration):
        next(batches)


def test_a_forgotten_iterator_ends_its_processes(make_folder):
    before = children()
    batches = get_batch(str(make_folder(3)), num_workers=2, **SMALL)
    next(batches)
    del batches
    gc.collect()
    assert children() == before


@pytest.mark.parametrize('end', ['', 'raise ValueError', 'os.kill(os.getpid(), signal.SIGINT)',
                                 'batches.close(); batches.close()'])
def test_programs_end_without_leftovers(make_folder, project_root, end):
    program = ('import os, signal\n'
               'from process_probe import children\n'
               'from utils.data_provider.data_provider import get_batch\n'
               f'batches = get_batch({str(make_folder(3))!r}, num_workers=2, input_size=32,'
               ' batch_size=2)\n'
               'next(batches)\n'
               'print(*children(), flush=True)\n' + end)
    search = os.pathsep.join([str(project_root), os.path.dirname(__file__)])
    done = subprocess.run([sys.executable, '-c', program], check=False, capture_output=True,
                          text=True, timeout=60, env=dict(os.environ, PYTHONPATH=search))
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    assert not any(map(is_alive, workers))
    assert done.stderr.count('Traceback') == (1 if 'raise' in end or 'SIGINT' in end else 0)


def test_the_data_provider_imports_no_tensorflow(project_root):
    program = ('import sys; import utils.data_provider.data_provider; '
               'sys.exit("tensorflow" in sys.modules)')
    assert subprocess.call([sys.executable, '-c', program], cwd=str(project_root)) == 0


def test_the_real_images(icdar_dir):
    with get_batch(str(icdar_dir / 'train'), num_workers=2, input_size=256, batch_size=4,
                   seed=0) as batches:
        taken = list(itertools.islice(batches, 8))
    names = {os.path.basename(path) for _, paths, _, _ in taken for path in paths}
    assert len(names) > 20
    assert all(images.shape == (4, 256, 256, 3) for images, _, _, _ in taken)
    # Text, what is masked, and background all turn up.
    assert 0 < np.mean([seg_maps[..., -1].mean() for _, _, seg_maps, _ in taken]) < 0.5
    assert 0.5 < np.mean([masks.mean() for _, _, _, masks in taken]) < 1


def test_relative_paths_work(make_folder, monkeypatch):
    directory = make_folder(3)
    monkeypatch.chdir(directory.parent)
    (_, paths, _, _), = _take(directory.name, 1)
    assert all(path.startswith(directory.name + os.sep) for path in paths)
