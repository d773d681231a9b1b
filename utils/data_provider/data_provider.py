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
        self._batch_size = options.batch_size
        self._paths = [sample.image_path for sample in samples]
        self._broken: Set[int] = set()
        self._pool = WorkerPool(BatchBuilder(samples, options), num_workers, first_batch)
        self._closed = False

    def __iter__(self) -> 'Batches':
        return self

    def __next__(self) -> Batch:
        """Waits for the next batch.

        Returns:
            images: float32 (N, S, S, 3), RGB, 0..255.
            paths: str (N), the image of each.
            seg_maps: float32 (N, S/4, S/4, 6), 0 or 1, smallest kernel first.
            training_masks: float32 (N, S/4, S/4, 1), 0 or 1.

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
        return (packed.images.astype(np.float32), [self._paths[index] for index in packed.indices],
                seg_maps.astype(np.float32), training_masks.astype(np.float32))

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
        if self.counts.usable_images < self._batch_size:
            raise PSENetError(f'Too few images can still be read for a batch of '
                              f'{self._batch_size} ({self.counts}).')
        if len(packed.indices) < self._batch_size:
            raise PSENetError(f'{MAX_DRAWS} draws in a row gave no sample for batch '
                              f'{self.next_batch} ({self.counts}).')


def get_batch(training_data_path: str,  # noqa: PLR0913 - every one has a name at the call
              num_workers: int, input_size: int, batch_size: int, *, seed: Optional[int] = None,
              first_batch: int = 0, min_crop_side_ratio: float = 0.1,
              dataset: str = 'icdar') -> Batches:
    """Starts processes that make training batches of a folder of annotated images.

    Batch k depends on the files, the seed and k, not on the number of processes. Call it before a
    TensorFlow session exists.

    Args:
        training_data_path: folder with X.jpg, .jpeg or .png and X.txt or gt_X.txt, side by side.
        num_workers: reader processes; beyond MAX_WORKERS it stays at that many.
        input_size: side of the network's input in pixels, a multiple of 32.
        batch_size: samples a batch.
        seed: 0 .. 2**32 - 1; drawn and logged when None.
        first_batch: number of the first batch, to go on where a run stopped.
        min_crop_side_ratio: a crop with a side shorter than this share of the image's is rejected.
        dataset: a name in datasets.DATASETS.

    Returns:
        The iterator; its `counts` tell in one line what was found.

    Raises:
        PSENetError: an argument cannot work, or the folder has too little to train on.
    """
    _check_arguments(num_workers, input_size, batch_size, seed, first_batch, min_crop_side_ratio)
    samples, counts = load_dataset(training_data_path, dataset)
    _check_dataset(training_data_path, counts, batch_size)
    if seed is None:
        seed = int.from_bytes(os.urandom(4), 'little')
        logger.info('The seed of the training data is %d.', seed)
    if num_workers > MAX_WORKERS:
        logger.info('%d reader processes are started; more would not be faster.', MAX_WORKERS)
    return Batches(samples, counts,
                   BatchOptions(input_size, batch_size, seed, min_crop_side_ratio),
                   min(num_workers, MAX_WORKERS), first_batch)


def _check_arguments(num_workers, input_size, batch_size, seed, first_batch, min_crop_side_ratio):
    if input_size < 1 or input_size % cfg.SIDE_MULTIPLE:
        raise PSENetError(f'--input_size must be a positive multiple of {cfg.SIDE_MULTIPLE}, '
                          f'not {input_size}.')
    for name, value, least in (('number of readers', num_workers, 1), ('batch size', batch_size, 1),
                               ('first batch', first_batch, 0)):
        if value < least:
            raise PSENetError(f'The {name} must be at least {least}, not {value}.')
    if seed is not None and not 0 <= seed <= _MAX_SEED:
        raise PSENetError(f'--seed must lie in 0 .. {_MAX_SEED}, not {seed}.')
    if not 0 <= min_crop_side_ratio <= 1:
        raise PSENetError(f'--min_crop_side_ratio must lie in 0 .. 1, not {min_crop_side_ratio}.')


def _check_dataset(folder: str, counts: DatasetCounts, batch_size: int) -> None:
    if not counts.images:
        problem = 'holds no jpg, jpeg or png image'
    elif not counts.pairs:
        problem = 'holds no label file (X.txt or gt_X.txt for X.jpg)'
    elif counts.usable_images < batch_size:
        problem = f'holds fewer usable images than a batch of {batch_size} needs'
    elif not counts.usable_regions:
        problem = 'has 0 usable regions, so that nothing could be learnt'
    else:
        return
    raise PSENetError(f'The training data folder {folder} {problem} ({counts}).')
