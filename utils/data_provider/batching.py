"""What batch k holds: a function of the seed, k and the samples, whoever makes it and when.

The images come in an order drawn anew for each epoch. Each position of a batch has a random stream
of its own; where its image cannot be used, it takes the next one from that stream. So a run can be
continued, or spread over any number of processes, and sees the same batches.

Processes that train together share each batch: rank r of W has the positions r * batch_size and up
of a batch of W * batch_size, so that together they see what one process with that batch sees.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from utils.data_provider.augment import (
    SamplePlan,
    half_is_enough,
    plan_sample,
    render_sample,
)
from utils.data_provider.datasets import Sample
from utils.data_provider.layout import BatchArrays
from utils.data_provider.options import BatchOptions
from utils.data_provider.reading import SampleReader
from utils.data_provider.targets import generate_seg
from utils.image_io import ImageError
from utils.utils_tool import cfg

# So many images in a row without a crop, or unreadable, and the data set is to blame.
MAX_DRAWS = 100


class BatchReport:
    """What a batch is made of, and what was met with while it was made."""

    def __init__(self):
        self.indices: List[int] = []            # of the samples; too few: a position got none
        self.unreadable: Dict[int, str] = {}    # message by index of a sample, where it is news
        self.skipped_draws = 0                  # draws without a crop of the wanted kind
        self.failed_draws = 0                   # draws of an image that cannot be read


class _Draw(NamedTuple):
    """What a position of a batch has drawn."""

    index: int                      # of the sample
    plan: Optional[SamplePlan]      # None: MAX_DRAWS gave none
    halved: bool                    # whether half of the image's size is enough for the plan
    skipped: int                    # draws without a crop
    failed: int                     # draws of a file known as broken


class BatchBuilder:
    """Makes batches by their number.

    Args:
        samples: the usable images.
        options: what shapes a batch.
        cache_bytes: what decoded images that are kept may take.
    """

    def __init__(self, samples: List[Sample], options: BatchOptions, cache_bytes: int = 0):
        self._samples = samples
        self._options = options
        self._reader = SampleReader(samples, cache_bytes)
        self._rng = np.random.RandomState()
        self._epoch = None
        self._order = None

    def __call__(self, number: int, arrays: BatchArrays) -> BatchReport:
        """Makes the batch of this number, counted from 0.

        A file that cannot be read is named in the first batch that meets with it, and not tried
        again. A position that finds no sample in MAX_DRAWS draws ends the batch early.

        Args:
            number: of the batch.
            arrays: where the samples go.

        Returns:
            The account of it.
        """
        return self.with_plans(number, arrays)[0]

    def with_plans(self, number: int, arrays: BatchArrays,
                   ) -> Tuple[BatchReport, List[SamplePlan]]:
        """As a call, and tells how each sample was made, which training need not know.

        Args:
            number: of the batch.
            arrays: where the samples go.

        Returns:
            The account of it, and a plan for each of its indices.
        """
        report = BatchReport()
        first = self._options.rank * self._options.batch_size
        positions = range(first, first + self._options.batch_size)
        # One kind of work after the other, and not one sample: pixels drive everything else out of
        # the processor's caches.
        draws = [(position, self._draw(number, position)) for position in positions]
        plans = []
        for drawn, picture in zip(draws, arrays.images):
            # Given up before the next is read, which then comes to lie in the same memory.
            image = None
            draw, image = self._read(number, *drawn, report)
            report.skipped_draws += draw.skipped
            report.failed_draws += draw.failed
            if image is None:
                break
            self._draw_picture(image, draw, picture)
            report.indices.append(draw.index)
            plans.append(draw.plan)
        for plan, seg_maps, training_mask in zip(plans, arrays.seg_maps, arrays.training_masks):
            self._draw_targets(plan, seg_maps, training_mask)
        return report, plans

    def _draw(self, number: int, position: int) -> _Draw:
        """The first draw for a position of all processes that works, as far as is known."""
        # The stream of a new RandomState of this seed, which would take ten times as long to make.
        rng, skipped, failed = self._rng, 0, 0
        rng.seed([self._options.seed, number, position])
        index = self._ordered_index(number * self._options.global_batch_size + position)
        for _ in range(MAX_DRAWS):
            sample = self._samples[index]
            plan = plan_sample(sample.size, sample.polygons, sample.ignore_tags,
                               self._options.input_size, self._options.min_crop_side_ratio, rng)
            skipped += plan is None
            # Files known as broken are passed over only here, after the draws of the plan: what a
            # position draws must not depend on what this process has seen.
            if plan is not None and index not in self._reader.broken:
                return _Draw(index, plan, half_is_enough(sample.size, plan), skipped, failed)
            failed += plan is not None
            index = rng.randint(len(self._samples))
        return _Draw(index, None, False, skipped, failed)

    def _ordered_index(self, draw: int) -> int:
        epoch, place = divmod(draw, len(self._samples))
        if epoch != self._epoch:
            rng = np.random.RandomState([self._options.seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._samples))
        return int(self._order[place])

    def _read(self, number: int, position: int, draw: _Draw, report: BatchReport,
              ) -> Tuple[_Draw, Optional[np.ndarray]]:
        """The image of a draw, or else the next draw whose image can be read, and that image."""
        while draw.plan is not None:
            if draw.index not in self._reader.broken:
                try:
                    return draw, self._reader.read(draw.index, draw.halved)
                except ImageError as error:
                    report.unreadable[draw.index] = str(error)
            # The same draws once more, which pass over this image from now on.
            draw = self._draw(number, position)
        return draw, None

    def _draw_picture(self, image: np.ndarray, draw: _Draw, picture: np.ndarray) -> None:
        rendered = render_sample(image, draw.plan, self._options.input_size, draw.halved)
        cv2.cvtColor(rendered, cv2.COLOR_BGR2RGB, dst=picture)

    def _draw_targets(self, plan: SamplePlan, seg_maps: np.ndarray, training_mask: np.ndarray,
                      ) -> None:
        seg_maps[:], training_mask[:] = 0, 1
        if not plan.polygons:
            return
        size = (self._options.input_size, self._options.input_size)
        full_maps, full_mask = generate_seg(size, plan.polygons, plan.ignore_tags)
        training_mask[..., 0] = full_mask[::cfg.STRIDE, ::cfg.STRIDE]
        # One after the other, for each is a plane of its own.
        for kernel in range(cfg.NUM_KERNELS):
            seg_maps[..., kernel] = full_maps[::cfg.STRIDE, ::cfg.STRIDE, kernel]
