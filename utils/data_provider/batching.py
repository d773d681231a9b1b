"""Builds training batches: batch k is a function of the seed, k and the samples.

Images are shuffled in each epoch. Each position of a batch has its own random stream, which also
provides another image if one cannot be used. A run can therefore be continued, or distributed over
any number of processes, with the same batches.

Processes that train together share each batch: rank r of W has the positions from r * batch_size
of a batch of W * batch_size, so that together they see what a single process would see.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import cv2
import numpy as np

from utils.data_provider.augment import (
    REFERENCE,
    Augmentation,
    SamplePlan,
    half_is_enough,
    plan_sample,
    render_sample,
)
from utils.data_provider.datasets import Sample, open_sample
from utils.data_provider.targets import generate_seg, soft_targets
from utils.errors import PSENetError
from utils.image_io import ImageError, read_image
from utils.utils_tool import cfg


class BatchArrays(NamedTuple):
    """The arrays of N samples of side S."""

    images: np.ndarray          # uint8 (N, S, S, 3), RGB, 0..255
    # uint8 (N, S/4, S/4, 6), smallest kernel first; 0 or 1, soft labels 0 to CELL_PIXELS.
    seg_maps: np.ndarray
    training_masks: np.ndarray  # uint8 (N, S/4, S/4, 1), 0 where the loss ignores the cell, else 1


class BatchLayout(NamedTuple):
    """The shapes of a batch."""

    batch_size: int
    input_size: int             # side S in pixels, a multiple of cfg.SIDE_MULTIPLE

    @property
    def num_bytes(self) -> int:
        """Size of a batch in bytes, a multiple of 64."""
        return sum(int(np.prod(shape)) for shape in self._shapes())

    def place(self, memory: np.ndarray) -> BatchArrays:
        """Views memory as the arrays of a batch.

        Args:
            memory: uint8 (num_bytes,), contiguous.

        Returns:
            Views of it, each aligned to 64 bytes, so that TensorFlow does not copy the arrays.
        """
        shapes = self._shapes()
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        return BatchArrays(*(part.reshape(shape)
                             for part, shape in zip(np.split(memory, ends[:-1]), shapes)))

    def allocate(self) -> BatchArrays:
        """Allocates uninitialized arrays."""
        return self.place(np.empty(self.num_bytes, np.uint8))

    def _shapes(self) -> BatchArrays:
        count, size, side = self.batch_size, self.input_size, self.input_size // cfg.STRIDE
        return BatchArrays((count, size, size, 3), (count, side, side, cfg.NUM_KERNELS),
                           (count, side, side, 1))


_MAX_SEED = 2 ** 32 - 1


class BatchOptions(NamedTuple):
    """Configuration of batches."""

    input_size: int                 # side of the network's input in pixels
    batch_size: int                 # samples of this process
    seed: Optional[int]             # 0 .. 2**32 - 1; None until one is chosen
    min_crop_side_ratio: float
    rank: int = 0                   # of this process, 0 .. world_size - 1
    world_size: int = 1             # processes that train together
    augmentation: Augmentation = REFERENCE
    soft_labels: bool = False       # targets by targets.soft_targets

    @property
    def global_batch_size(self) -> int:
        """Samples of all processes."""
        return self.world_size * self.batch_size

    @property
    def layout(self) -> BatchLayout:
        """The shapes of this process's arrays."""
        return BatchLayout(self.batch_size, self.input_size)

    def describe_batch(self) -> str:
        """The size of a batch of all processes, for messages."""
        if self.world_size == 1:
            return str(self.batch_size)
        return f'{self.global_batch_size} ({self.world_size} processes x {self.batch_size})'


def check_options(options: BatchOptions) -> None:
    """Checks the configuration.

    Raises:
        PSENetError: a value is invalid.
    """
    if options.input_size < 1 or options.input_size % cfg.SIDE_MULTIPLE:
        raise PSENetError(f'--input_size={options.input_size} must be a positive multiple of '
                          f'{cfg.SIDE_MULTIPLE}')
    check_at_least('batch size', options.batch_size, 1)
    if options.seed is not None and not 0 <= options.seed <= _MAX_SEED:
        raise PSENetError(f'--seed={options.seed} must lie in 0 .. {_MAX_SEED}')
    if not 0 <= options.min_crop_side_ratio <= 1:
        raise PSENetError(f'--min_crop_side_ratio={options.min_crop_side_ratio} must lie in '
                          '0 .. 1')
    check_at_least('number of processes', options.world_size, 1)
    if not 0 <= options.rank < options.world_size:
        raise PSENetError(f'the rank must lie in 0 .. {options.world_size - 1}, not '
                          f'{options.rank}')


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises PSENetError if a named value is too small."""
    if value < least:
        raise PSENetError(f'the {name} must be at least {least}, not {value}')


class SampleReader:
    """Reads and caches the images of samples.

    Args:
        samples: the usable images.
        cache_bytes: size of the cache of decoded images. The first that fit are kept forever, as
            every epoch uses every image once.
    """

    def __init__(self, samples: Sequence[Sample], cache_bytes: int = 0):
        self._samples = samples
        self._room = cache_bytes
        self._kept: Dict[Tuple[int, bool], np.ndarray] = {}
        self.broken: Set[int] = set()

    def read(self, index: int, halved: bool) -> np.ndarray:
        """Reads a sample's image.

        Args:
            index: of the sample.
            halved: decode to half the size, which is faster; both sides must be even.

        Returns:
            uint8 (H, W, 3), BGR, read-only by convention.

        Raises:
            ImageError: the image can no longer be read; its index is added to `broken`.
        """
        # A cached image is not used for its half, as samples must not depend on the cache.
        image = self._kept.get((index, halved))
        if image is None:
            image = self._decode(index, halved)
            if image.nbytes <= self._room:
                self._kept[index, halved] = image
                self._room -= image.nbytes
        return image

    def open(self, index: int) -> Sample:
        """Returns a sample with the size of its image.

        Raises:
            ImageError: as read.
        """
        try:
            return open_sample(self._samples[index])
        except ImageError:
            self.broken.add(index)
            raise

    def _decode(self, index: int, halved: bool) -> np.ndarray:
        sample = self.open(index)
        path, (height, width) = sample.image_path, sample.size
        try:
            image = read_image(path, halved, height * width, sample.apply_exif_orientation)
            if image.shape[:2] != ((height // 2, width // 2) if halved else (height, width)):
                raise ImageError(f'the size of the image {path} has changed since the start')
        except ImageError:
            self.broken.add(index)
            raise
        return image


# Consecutive images without a crop, or unreadable, after which building a batch fails.
MAX_DRAWS = 100


class BatchReport:
    """The samples of a batch, and the problems in building it."""

    def __init__(self):
        self.indices: List[int] = []            # of the samples; fewer than the batch on failure
        self.unreadable: Dict[int, str] = {}    # sample index -> error message, only new ones
        self.skipped_draws = 0                  # draws without a crop of the wanted kind
        self.failed_draws = 0                   # draws of an unreadable image


class _Draw(NamedTuple):
    """The draw of a position in a batch."""

    index: int                      # of the sample
    plan: Optional[SamplePlan]      # None after MAX_DRAWS failures
    halved: bool                    # half of the image's size is enough for the plan
    skipped: int                    # draws without a crop
    failed: int                     # draws of a broken file


# Number of draws in which each set of a mixture has exactly its share.
_BLOCK = 1000


class _Order:
    """The order of samples; each set has its own epochs and is shuffled in each.

    Args:
        seed: of the run.
        shares: (samples, weight) of each set; the weights sum to one.
    """

    def __init__(self, seed: int, shares: Sequence[Tuple[int, float]]):
        ends = np.cumsum([size for size, _ in shares])
        self._seed = seed
        self._sets = [range(end - size, end) for end, (size, _) in zip(ends.tolist(), shares)]
        self._orders: Dict[int, Tuple[int, np.ndarray]] = {}
        # Rounded down; the rest goes to the largest remainders.
        exact = np.array([weight for _, weight in shares]) * _BLOCK
        self._counts = np.floor(exact).astype(int)
        self._counts[np.argsort(self._counts - exact, kind='stable')[
            :_BLOCK - self._counts.sum()]] += 1

    def __call__(self, draw: int) -> Tuple[int, range]:
        """Returns the sample index of a draw, and the indices of its set."""
        which, place = (0, draw) if len(self._sets) == 1 else self._set_at(draw)
        members = self._sets[which]
        epoch, place = divmod(place, len(members))
        if self._orders.get(which, (None,))[0] != epoch:
            key = [self._seed, epoch] if len(self._sets) == 1 else [self._seed, epoch, which, 0]
            self._orders[which] = epoch, np.random.RandomState(key).permutation(len(members))
        return members.start + int(self._orders[which][1][place]), members

    def _set_at(self, draw: int) -> Tuple[int, int]:
        """Returns the set of a draw, and the number of earlier draws of that set."""
        block, place = divmod(draw, _BLOCK)
        kinds = np.random.RandomState([self._seed, block, 0, 1]).permutation(
            np.repeat(np.arange(len(self._sets)), self._counts))
        which = int(kinds[place])
        return which, int(block * self._counts[which] + (kinds[:place] == which).sum())


class BatchBuilder:
    """Builds batches by number.

    Args:
        samples: the usable images.
        options: configuration.
        cache_bytes: size of the cache of decoded images.
        shares: (samples, weight) of each set, in the order of the samples; empty for one set.
    """

    def __init__(self, samples: Sequence[Sample], options: BatchOptions, cache_bytes: int = 0,
                 shares: Sequence[Tuple[int, float]] = ()):
        self._samples = samples
        self._options = options
        self._reader = SampleReader(samples, cache_bytes)
        self._order = _Order(options.seed, shares or [(len(samples), 1.0)])
        self._rng = np.random.RandomState()

    def __call__(self, number: int, arrays: BatchArrays) -> BatchReport:
        """Builds a batch.

        An unreadable file is reported with the first batch that draws it, and not read again. If
        a position finds no sample in MAX_DRAWS draws, the batch is incomplete.

        Args:
            number: of the batch, from 0.
            arrays: filled with the samples.

        Returns:
            The report.
        """
        return self.with_plans(number, arrays)[0]

    def with_plans(self, number: int, arrays: BatchArrays,
                   ) -> Tuple[BatchReport, List[SamplePlan]]:
        """Builds a batch, and also returns the plans of its samples.

        Args:
            number: of the batch, from 0.
            arrays: filled with the samples.

        Returns:
            The report, and the plan of each sample.
        """
        report = BatchReport()
        first = self._options.rank * self._options.batch_size
        positions = range(first, first + self._options.batch_size)
        # Step by step for all samples, not sample by sample: pixels evict everything else from the
        # processor's caches.
        draws = [(position, self._draw(number, position, report)) for position in positions]
        plans = []
        for drawn, target in zip(draws, arrays.images):
            # Freed before the next image is read, which can then reuse the memory.
            image = None
            draw, image = self._read(number, *drawn, report)
            report.skipped_draws += draw.skipped
            report.failed_draws += draw.failed
            if image is None:
                break
            rendered = render_sample(image, draw.plan, self._options.input_size, draw.halved)
            cv2.cvtColor(rendered, cv2.COLOR_BGR2RGB, dst=target)
            report.indices.append(draw.index)
            plans.append(draw.plan)
        for plan, seg_maps, training_mask in zip(plans, arrays.seg_maps, arrays.training_masks):
            self._draw_targets(plan, seg_maps, training_mask)
        return report, plans

    def _draw(self, number: int, position: int, report: BatchReport) -> _Draw:
        """Draws samples for a position in the global batch until one seems usable."""
        # Seeding is ten times as fast as creating a RandomState, with the same stream.
        rng, skipped, failed = self._rng, 0, 0
        rng.seed([self._options.seed, number, position])
        index, alternatives = self._order(number * self._options.global_batch_size + position)
        for _ in range(MAX_DRAWS):
            plan = None
            try:
                sample = self._reader.open(index)
            except ImageError as error:     # on the first access to a sample of SynthText
                report.unreadable[index] = str(error)
                failed += 1
            else:
                plan = plan_sample(sample.size, sample.polygons, sample.ignore_tags,
                                   self._options.input_size, self._options.min_crop_side_ratio,
                                   rng, self._options.augmentation)
                skipped += plan is None
            # Broken files are skipped only after the plan is drawn: the random stream must not
            # depend on what this process has read.
            if plan is not None and index not in self._reader.broken:
                return _Draw(index, plan, half_is_enough(sample.size, plan), skipped, failed)
            failed += plan is not None
            index = alternatives.start + rng.randint(len(alternatives))
        return _Draw(index, None, False, skipped, failed)

    def _read(self, number: int, position: int, draw: _Draw, report: BatchReport,
              ) -> Tuple[_Draw, Optional[np.ndarray]]:
        """Reads the image of a draw, or of the next draw whose image can be read."""
        while draw.plan is not None:
            if draw.index not in self._reader.broken:
                try:
                    return draw, self._reader.read(draw.index, draw.halved)
                except ImageError as error:
                    report.unreadable[draw.index] = str(error)
            # Repeats the draws, which now skip this image.
            draw = self._draw(number, position, report)
        return draw, None


    def _draw_targets(self, plan: SamplePlan, seg_maps: np.ndarray, training_mask: np.ndarray,
                      ) -> None:
        seg_maps[:], training_mask[:] = 0, 1
        if not plan.polygons:
            return
        size = (self._options.input_size, self._options.input_size)
        if self._options.soft_labels:
            seg_maps[:], training_mask[..., 0] = soft_targets(size, plan.polygons,
                                                              plan.ignore_tags)
            return
        full_maps, full_mask = generate_seg(size, plan.polygons, plan.ignore_tags)
        training_mask[..., 0] = full_mask[::cfg.STRIDE, ::cfg.STRIDE]
        # One by one, as each map is a plane of its own.
        for kernel in range(cfg.NUM_KERNELS):
            seg_maps[..., kernel] = full_maps[::cfg.STRIDE, ::cfg.STRIDE, kernel]
