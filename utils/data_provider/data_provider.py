"""Training batches from a directory of annotated images: `get_batch`."""

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

# Number of draws after which training stops if more than half of them failed.
_CHECKED_DRAWS = 100

Batch = Tuple[np.ndarray, List[str], np.ndarray, np.ndarray]


class Batches:
    """Endless iterator over training batches, created by get_batch; also a context manager.

    It runs processes: close it, or leave the `with` block, when done.

    Attributes:
        seed: int, the given or drawn seed of the batches.
        counts: DatasetCounts, contents of the directory, updated when files become unreadable.
        next_batch: int, number of the next batch.
    """

    def __init__(self, samples: Sequence[Sample], counts: DatasetCounts, options: BatchOptions,
                 pool: WorkerPool, first_batch: int):
        self.seed = options.seed
        self.counts = counts
        self.next_batch = first_batch
        self._options = options
        self._samples = samples
        self._broken: Set[int] = set()
        self._good_draws = self._failed_draws = 0   # since the last check
        self._pool = pool
        self._closed = False

    def __iter__(self) -> 'Batches':
        return self

    def __next__(self) -> Batch:
        """Waits for the next batch.

        The arrays are views of memory shared with the readers, and stay valid while anything
        refers to them, even after close. If batches besides the last are kept, further ones are
        copies.

        Returns:
            images: uint8 (N, S, S, 3), RGB, 0..255.
            paths: str (N), paths of the images.
            seg_maps: uint8 (N, S/4, S/4, 6), 0 or 1, smallest kernel first; soft labels 0 to 16.
            training_masks: uint8 (N, S/4, S/4, 1), 0 or 1.

        Raises:
            PSENetError: too few images can be read, more than half of the draws failed, or a
                reader process was lost.
            RemoteError: a reader process failed.
            StopIteration: after close, or after an error.
        """
        if self._closed:
            raise StopIteration
        try:
            report, arrays = self._pool.get()
            self._update(report)
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
        """Ends the processes; may be called more than once."""
        self._closed = True
        self._pool.close()

    def _update(self, report: BatchReport) -> None:
        """Warns once about each unreadable file; raises PSENetError if too few are left."""
        news = {index: message for index, message in report.unreadable.items()
                if index not in self._broken}
        for message in news.values():
            logger.warning('%s; skipped', message)
        self._broken.update(news)
        self.counts = self.counts._replace(
            usable_images=self.counts.usable_images - len(news),
            unreadable=self.counts.unreadable + len(news),
            skipped_draws=self.counts.skipped_draws + report.skipped_draws)
        if self.counts.usable_images < self._options.global_batch_size:
            raise PSENetError(f'too few images can still be read for a batch of '
                              f'{self._options.describe_batch()} ({self.counts})')
        if len(report.indices) < self._options.batch_size:
            raise PSENetError(f'{MAX_DRAWS} consecutive draws gave no sample for batch '
                              f'{self.next_batch} ({self.counts})')
        self._check_draws(report)

    def _check_draws(self, report: BatchReport) -> None:
        self._good_draws += len(report.indices)
        self._failed_draws += report.failed_draws
        draws = self._good_draws + self._failed_draws
        if draws < _CHECKED_DRAWS:
            return
        if self._failed_draws > self._good_draws:
            raise PSENetError(f'{self._failed_draws} of the last {draws} images drawn can no '
                              f'longer be read: check the training data ({self.counts})')
        self._good_draws = self._failed_draws = 0


def get_batch(training_data_path: str,  # noqa: PLR0913 - every one has a name at the call
              num_workers: int, input_size: int, batch_size: int, *, seed: Optional[int] = None,
              first_batch: int = 0, min_crop_side_ratio: float = 0.1, dataset: str = AUTO,
              rank: int = 0, world_size: int = 1, cache_images_mb: int = 0,
              max_image_pixels: int = MAX_IMAGE_PIXELS,
              apply_exif_orientation: bool = False, label_path: str = '',
              augmentation: Augmentation = REFERENCE, soft_labels: bool = False) -> Batches:
    """Starts processes that read training batches from a directory of annotated images.

    Batch k depends on the files, the seed and k, but not on the number of readers. If several
    processes train together, each gets its part of the batch: W processes with batch_size b see
    together what one process with batch_size W * b sees. Call it before creating a TensorFlow
    session.

    Args:
        training_data_path: directory of images and labels, as in docs/data.md; or several
            directories with weights, ``A:0.5,B:0.5``.
        num_workers: reader processes, at most MAX_WORKERS are started.
        input_size: side of the network's input in pixels, a multiple of 32.
        batch_size: samples per batch of this process.
        seed: 0 .. 2**32 - 1, the same in processes that train together; if None, 0 for those, and
            otherwise drawn and logged.
        first_batch: number of the first batch, to continue a run.
        min_crop_side_ratio: minimum side of a crop as a share of the image's side.
        dataset: a name in pairing.DATASETS, or ``auto`` to detect the format.
        rank: of this process, 0 .. world_size - 1.
        world_size: number of processes that train together.
        cache_images_mb: memory for caching decoded images in all readers of this process; 0
            disables the cache.
        max_image_pixels: larger images are skipped before they are decoded.
        apply_exif_orientation: rotate images to their EXIF orientation.
        label_path: directory of the labels if they are not with the images.
        augmentation: configuration of augmentation.
        soft_labels: seg_maps have the number of a cell's pixels in the kernel, 0 to 16.

    Returns:
        The iterator; its `counts` summarize the data set.

    Raises:
        PSENetError: an argument is invalid, or the directory has too little to train on.
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
        logger.info('starting %d reader processes; more would not be faster', num_workers)
    build = BatchBuilder(samples, options, cache_images_mb * 2 ** 20 // num_workers, shares)
    pool = WorkerPool(build, options.layout, num_workers, first_batch)
    return Batches(samples, counts, options, pool, first_batch)


def choose_seed(seed: Optional[int], world_size: int = 1) -> int:
    """Returns the given seed, or else 0 for several processes, or else a random one."""
    if seed is not None:
        return seed
    if world_size > 1:
        logger.info('the seed of the training data is 0, the default for %d processes',
                    world_size)
        return 0
    seed = int.from_bytes(os.urandom(4), 'little')
    logger.info('the seed of the training data is %d', seed)
    return seed


def check_dataset(directory: str, counts: DatasetCounts, options: BatchOptions) -> None:
    """Raises PSENetError if a directory has too little to train on."""
    # The global batch, so that all ranks come to the same result.
    if not counts.images:
        problem = 'contains no jpg, jpeg or png image'
    elif not counts.pairs:
        problem = 'contains no label file of an image (X.txt for X.jpg, see docs/data.md)'
    elif counts.usable_images < options.global_batch_size:
        problem = f'has fewer usable images than a batch of {options.describe_batch()}'
    elif not counts.usable_regions:
        problem = 'has 0 usable regions, so there is nothing to learn'
    else:
        return
    raise PSENetError(f'the training data directory {directory} {problem} ({counts})')
