"""Training batches from a folder of annotated images: `get_batch`."""

import os
from typing import List, Optional, Set, Tuple

import numpy as np

from utils.data_provider.batching import (
    MAX_DRAWS,
    BatchBuilder,
    BatchOptions,
    PackedBatch,
    unpack_targets,
)
from utils.data_provider.data_util import MAX_WORKERS, WorkerPool
from utils.data_provider.datasets import DatasetCounts, Sample, load_dataset
from utils.errors import PSENetError
from utils.utils_tool import cfg, logger

_MAX_SEED = 2 ** 32 - 1
Batch = Tuple[np.ndarray, List[str], np.ndarray, np.ndarray]


class Batches:
    """Iterator over training batches, without end; made by get_batch.

    Also a context manager. It holds processes: close it, or leave the `with` block, when done.

    Attributes:
        seed: int, what the batches depend on, drawn if none was given.
        counts: DatasetCounts, what the folder holds, kept up to date with what reading it meets.
        next_batch: int, number of the batch that comes next.
    """

    def __init__(self, samples: List[Sample], counts: DatasetCounts, options: BatchOptions,
                 num_workers: int, first_batch: int):
        self.seed = options.seed
        self.counts = counts
        self.next_batch = first_batch
        self._options = options
        self._paths = [sample.image_path for sample in samples]
        self._broken: Set[int] = set()
        self._pool = WorkerPool(BatchBuilder(samples, options), num_workers, first_batch)
        self._closed = False

    def __iter__(self) -> 'Batches':
        return self

    def __next__(self) -> Batch:
        """Waits for the next batch.

        Returns:
            images: uint8 (N, S, S, 3), RGB, 0..255.
            paths: str (N), the image of each.
            seg_maps: uint8 (N, S/4, S/4, 6), 0 or 1, smallest kernel first.
            training_masks: uint8 (N, S/4, S/4, 1), 0 or 1.

        Raises:
            PSENetError: too few images are left that can be read, or a reader process is gone.
            RemoteError: a reader process failed.
            StopIteration: after close, or after an error.
        """
        if self._closed:
            raise StopIteration
        try:
            packed = self._pool.get()
            self._take_account(packed)
        except BaseException:
            self.close()
            raise
        self.next_batch += 1
        seg_maps, training_masks = unpack_targets(packed.targets)
        # What came through the connection cannot be written to.
        return (packed.images.copy(), [self._paths[index] for index in packed.indices], seg_maps,
                training_masks)

    def __enter__(self) -> 'Batches':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; can be called any number of times."""
        self._closed = True
        self._pool.close()

    def _take_account(self, packed: PackedBatch) -> None:
        """Warns of files that cannot be read, once each; stops when too few are left."""
        report = packed.report
        news = {index: message for index, message in report.unreadable.items()
                if index not in self._broken}
        for message in news.values():
            logger.warning('An image is left out. %s', message)
        self._broken.update(news)
        self.counts = self.counts._replace(
            usable_images=self.counts.usable_images - len(news),
            unreadable=self.counts.unreadable + len(news),
            skipped_draws=self.counts.skipped_draws + report.skipped_draws)
        if self.counts.usable_images < self._options.global_batch_size:
            raise PSENetError(f'Too few images can still be read for a batch of '
                              f'{_describe_batch(self._options)} ({self.counts}).')
        if len(packed.indices) < self._options.batch_size:
            raise PSENetError(f'{MAX_DRAWS} draws in a row gave no sample for batch '
                              f'{self.next_batch} ({self.counts}).')


def get_batch(training_data_path: str,  # noqa: PLR0913 - every one has a name at the call
              num_workers: int, input_size: int, batch_size: int, *, seed: Optional[int] = None,
              first_batch: int = 0, min_crop_side_ratio: float = 0.1, dataset: str = 'icdar',
              rank: int = 0, world_size: int = 1) -> Batches:
    """Starts processes that make training batches of a folder of annotated images.

    Batch k depends on the files, the seed and k, not on the number of readers. Where several
    processes train together, each gets its share of it: W of them with batch_size b see, all
    together, what one with batch_size W * b sees. Call it before a TensorFlow session exists.

    Args:
        training_data_path: folder with X.jpg, .jpeg or .png and X.txt or gt_X.txt, side by side.
        num_workers: reader processes; beyond MAX_WORKERS it stays at that many.
        input_size: side of the network's input in pixels, a multiple of 32.
        batch_size: samples a batch of this process.
        seed: 0 .. 2**32 - 1, the same in processes that train together; when None, 0 for them, and
            else drawn and logged.
        first_batch: number of the first batch, to go on where a run stopped.
        min_crop_side_ratio: a crop with a side shorter than this share of the image's is rejected.
        dataset: a name in datasets.DATASETS.
        rank: number of this process among those that train together, 0 .. world_size - 1.
        world_size: how many train together.

    Returns:
        The iterator; its `counts` tell in one line what was found.

    Raises:
        PSENetError: an argument cannot work, or the folder has too little to train on.
    """
    options = BatchOptions(input_size, batch_size, seed, min_crop_side_ratio, rank, world_size)
    _check_options(options)
    for name, value, least in (('number of readers', num_workers, 1),
                               ('first batch', first_batch, 0)):
        _check_at_least(name, value, least)
    samples, counts = load_dataset(training_data_path, dataset)
    _check_dataset(training_data_path, counts, options)
    if num_workers > MAX_WORKERS:
        logger.info('%d reader processes are started; more would not be faster.', MAX_WORKERS)
    return Batches(samples, counts, options._replace(seed=_choose_seed(seed, world_size)),
                   min(num_workers, MAX_WORKERS), first_batch)


def _choose_seed(seed: Optional[int], world_size: int) -> int:
    """The seed, where none was given one that every process finds, or else one of this run."""
    if seed is not None:
        return seed
    if world_size > 1:
        logger.info('The seed of the training data is 0, which %d processes share as none was '
                    'given.', world_size)
        return 0
    seed = int.from_bytes(os.urandom(4), 'little')
    logger.info('The seed of the training data is %d.', seed)
    return seed


def _check_options(options: BatchOptions) -> None:
    if options.input_size < 1 or options.input_size % cfg.SIDE_MULTIPLE:
        raise PSENetError(f'--input_size must be a positive multiple of {cfg.SIDE_MULTIPLE}, '
                          f'not {options.input_size}.')
    _check_at_least('batch size', options.batch_size, 1)
    if options.seed is not None and not 0 <= options.seed <= _MAX_SEED:
        raise PSENetError(f'--seed must lie in 0 .. {_MAX_SEED}, not {options.seed}.')
    if not 0 <= options.min_crop_side_ratio <= 1:
        raise PSENetError('--min_crop_side_ratio must lie in 0 .. 1, '
                          f'not {options.min_crop_side_ratio}.')
    _check_at_least('number of processes', options.world_size, 1)
    if not 0 <= options.rank < options.world_size:
        raise PSENetError(f'The rank of one of {options.world_size} processes must lie in '
                          f'0 .. {options.world_size - 1}, not {options.rank}.')


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise PSENetError(f'The {name} must be at least {least}, not {value}.')


def _check_dataset(folder: str, counts: DatasetCounts, options: BatchOptions) -> None:
    # The batch of all processes, as one process with that batch would: every rank has the same
    # folder before it and so comes to the same end.
    if not counts.images:
        problem = 'holds no jpg, jpeg or png image'
    elif not counts.pairs:
        problem = 'holds no label file (X.txt or gt_X.txt for X.jpg)'
    elif counts.usable_images < options.global_batch_size:
        problem = f'holds fewer usable images than a batch of {_describe_batch(options)} needs'
    elif not counts.usable_regions:
        problem = 'has 0 usable regions, so that nothing could be learnt'
    else:
        return
    raise PSENetError(f'The training data folder {folder} {problem} ({counts}).')


def _describe_batch(options: BatchOptions) -> str:
    if options.world_size == 1:
        return str(options.batch_size)
    return (f'{options.global_batch_size} ({options.world_size} processes x '
            f'{options.batch_size})')
