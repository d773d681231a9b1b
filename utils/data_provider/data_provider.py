"""Training batches from a folder of annotated images: `get_batch`."""

import os
from typing import List, Optional, Sequence, Set, Tuple

import numpy as np

from utils.data_provider.augment import REFERENCE, Augmentation
from utils.data_provider.batching import (
    MAX_DRAWS,
    BatchBuilder,
    BatchOptions,
    BatchReport,
    check_at_least,
    check_options,
)
from utils.data_provider.datasets import DatasetCounts, Sample, load_mixture
from utils.data_provider.pairing import AUTO
from utils.data_provider.readers import MAX_WORKERS, WorkerPool
from utils.errors import PSENetError
from utils.image_io import MAX_IMAGE_PIXELS
from utils.utils_tool import logger

# So many are judged together, whether more than half of them failed.
_JUDGED_DRAWS = 100

Batch = Tuple[np.ndarray, List[str], np.ndarray, np.ndarray]


class Batches:
    """Endless iterator over training batches; made by get_batch.

    Also a context manager. It holds processes: close it, or leave the `with` block, when done.

    Attributes:
        seed: int, what the batches depend on, drawn if none was given.
        counts: DatasetCounts, what the folder holds, kept up to date with what reading it meets.
        next_batch: int, number of the batch that comes next.
    """

    def __init__(self, samples: Sequence[Sample], counts: DatasetCounts, options: BatchOptions,
                 pool: WorkerPool, first_batch: int):
        self.seed = options.seed
        self.counts = counts
        self.next_batch = first_batch
        self._options = options
        self._samples = samples
        self._broken: Set[int] = set()
        self._good_draws = self._failed_draws = 0   # since they were judged
        self._pool = pool
        self._closed = False

    def __iter__(self) -> 'Batches':
        return self

    def __next__(self) -> Batch:
        """Waits for the next batch.

        The arrays keep their values for as long as anything refers to them or to a view of them,
        the iterator's end included. They lie in memory that the readers share and use anew after
        that; where more than the last batch is kept, the next ones come as copies.

        Returns:
            images: uint8 (N, S, S, 3), RGB, 0..255.
            paths: str (N), the image of each.
            seg_maps: uint8 (N, S/4, S/4, 6), 0 or 1, smallest kernel first; soft labels 0 to 16.
            training_masks: uint8 (N, S/4, S/4, 1), 0 or 1.

        Raises:
            PSENetError: too few images are left that can be read, more than half of the draws meet
                one that cannot, or a reader process is gone.
            RemoteError: a reader process failed.
            StopIteration: after close, or after an error.
        """
        if self._closed:
            raise StopIteration
        try:
            report, arrays = self._pool.get()
            self._take_account(report)
        except BaseException:
            self.close()
            raise
        self.next_batch += 1
        paths = [self._samples[index].image_path for index in report.indices]
        return arrays.images, paths, arrays.seg_maps, arrays.training_masks

    def __enter__(self) -> 'Batches':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; can be called any number of times."""
        self._closed = True
        self._pool.close()

    def _take_account(self, report: BatchReport) -> None:
        """Warns of files that cannot be read, once each; stops when too few are left."""
        news = {index: message for index, message in report.unreadable.items()
                if index not in self._broken}
        for message in news.values():
            logger.warning('%s; it is left out', message)
        self._broken.update(news)
        self.counts = self.counts._replace(
            usable_images=self.counts.usable_images - len(news),
            unreadable=self.counts.unreadable + len(news),
            skipped_draws=self.counts.skipped_draws + report.skipped_draws)
        if self.counts.usable_images < self._options.global_batch_size:
            raise PSENetError(f'too few images can still be read for a batch of '
                              f'{self._options.describe_batch()} ({self.counts})')
        if len(report.indices) < self._options.batch_size:
            raise PSENetError(f'{MAX_DRAWS} draws in a row gave no sample for batch '
                              f'{self.next_batch} ({self.counts})')
        self._judge_draws(report)

    def _judge_draws(self, report: BatchReport) -> None:
        self._good_draws += len(report.indices)
        self._failed_draws += report.failed_draws
        draws = self._good_draws + self._failed_draws
        if draws < _JUDGED_DRAWS:
            return
        if self._failed_draws > self._good_draws:
            raise PSENetError(f'of the last {draws} draws of an image {self._failed_draws} met one '
                              'that can no longer be read: see what became of the training data '
                              f'({self.counts})')
        self._good_draws = self._failed_draws = 0


def get_batch(training_data_path: str,  # noqa: PLR0913 - every one has a name at the call
              num_workers: int, input_size: int, batch_size: int, *, seed: Optional[int] = None,
              first_batch: int = 0, min_crop_side_ratio: float = 0.1, dataset: str = AUTO,
              rank: int = 0, world_size: int = 1, cache_images_mb: int = 0,
              max_image_pixels: int = MAX_IMAGE_PIXELS,
              apply_exif_orientation: bool = False, label_path: str = '',
              augmentation: Augmentation = REFERENCE, soft_labels: bool = False) -> Batches:
    """Starts processes that make training batches of a folder of annotated images.

    Batch k depends on the files, the seed and k, not on the number of readers. Where several
    processes train together, each gets its share of it: W of them with batch_size b see, all
    together, what one with batch_size W * b sees. Call it before a TensorFlow session exists.

    Args:
        training_data_path: folder with images and their labels, as of docs/data.md; or several,
            each with a weight, ``A:0.5,B:0.5``.
        num_workers: reader processes; beyond MAX_WORKERS it stays at that many.
        input_size: side of the network's input in pixels, a multiple of 32.
        batch_size: samples a batch of this process.
        seed: 0 .. 2**32 - 1, the same in processes that train together; when None, 0 for them, and
            else drawn and logged.
        first_batch: number of the first batch, to go on where a run stopped.
        min_crop_side_ratio: a crop with a side shorter than this share of the image's is rejected.
        dataset: a name in pairing.DATASETS, or ``auto`` to find it by what the labels look like.
        rank: number of this process among those that train together, 0 .. world_size - 1.
        world_size: how many train together.
        cache_images_mb: what decoded images that are kept may take in this process's readers, all
            together; none are kept with 0.
        max_image_pixels: an image that has more is left out, before it takes memory.
        apply_exif_orientation: turn images as their EXIF orientation says.
        label_path: folder of the labels where they do not lie with the images.
        augmentation: how samples vary.
        soft_labels: give each cell of seg_maps the number of its pixels in the kernel, 0 to 16.

    Returns:
        The iterator; its `counts` tell in one line what was found.

    Raises:
        PSENetError: an argument cannot work, or the folder has too little to train on.
    """
    options = BatchOptions(input_size, batch_size, seed, min_crop_side_ratio, rank, world_size,
                           augmentation, soft_labels)
    check_options(options)
    check_at_least('number of readers', num_workers, 1)
    check_at_least('first batch', first_batch, 0)
    check_at_least('cache of images', cache_images_mb, 0)
    check_at_least('limit of pixels', max_image_pixels, 1)
    samples, counts, shares = load_mixture(training_data_path, dataset, max_image_pixels,
                                           apply_exif_orientation, label_path)
    check_dataset(training_data_path, counts, options)
    options = options._replace(seed=choose_seed(seed, world_size))
    if num_workers > MAX_WORKERS:
        num_workers = MAX_WORKERS
        logger.info('%d reader processes are started; more would not be faster', num_workers)
    build = BatchBuilder(samples, options, cache_images_mb * 2 ** 20 // num_workers, shares)
    pool = WorkerPool(build, options.layout, num_workers, first_batch)
    return Batches(samples, counts, options, pool, first_batch)


def choose_seed(seed: Optional[int], world_size: int = 1) -> int:
    """Returns the given seed, else one that all processes share, else a random one."""
    if seed is not None:
        return seed
    if world_size > 1:
        logger.info('the seed of the training data is 0, which %d processes share as none was '
                    'given', world_size)
        return 0
    seed = int.from_bytes(os.urandom(4), 'little')
    logger.info('the seed of the training data is %d', seed)
    return seed


def check_dataset(folder: str, counts: DatasetCounts, options: BatchOptions) -> None:
    """Raises PSENetError if a folder has too little to train on."""
    # The batch of all processes, as one process with that batch would: every rank has the same
    # folder before it and so comes to the same end.
    if not counts.images:
        problem = 'holds no jpg, jpeg or png image'
    elif not counts.pairs:
        problem = 'holds no label file of an image (docs/data.md has the names, X.txt for X.jpg)'
    elif counts.usable_images < options.global_batch_size:
        problem = f'holds fewer usable images than a batch of {options.describe_batch()} needs'
    elif not counts.usable_regions:
        problem = 'has 0 usable regions, so that nothing could be learnt'
    else:
        return
    raise PSENetError(f'the training data folder {folder} {problem} ({counts})')
