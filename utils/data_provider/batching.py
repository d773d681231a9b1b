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

from utils.data_provider.augment import SamplePlan, plan_sample, render_sample
from utils.data_provider.datasets import Sample
from utils.data_provider.targets import generate_seg
from utils.image_io import ImageError, read_image
from utils.utils_tool import cfg

# So many images in a row without a crop, or unreadable, and the data set is to blame.
MAX_DRAWS = 100


class BatchOptions(NamedTuple):
    """What shapes a batch, beside the samples."""

    input_size: int                 # side of the network's input in pixels
    batch_size: int                 # samples of this process
    seed: int                       # 0 .. 2**32 - 1
    min_crop_side_ratio: float
    rank: int = 0                   # of this process, 0 .. world_size - 1
    world_size: int = 1             # processes that train together

    @property
    def global_batch_size(self) -> int:
        """Samples of all processes."""
        return self.world_size * self.batch_size


class BatchReport:
    """What was met with while a batch was made."""

    def __init__(self):
        self.unreadable: Dict[int, str] = {}    # message by index of a sample, where it is news
        self.skipped_draws = 0                  # draws without a crop of the wanted kind


class PackedBatch(NamedTuple):
    """A batch as it travels between processes: bytes, one bit a target."""

    indices: Tuple[int, ...]        # of the samples; fewer than batch_size: a position got none
    images: np.ndarray              # uint8 (N, S, S, 3), RGB
    targets: np.ndarray             # uint8 (N, S/4, S/4), from pack_targets
    report: BatchReport


def pack_targets(seg_maps: np.ndarray, training_mask: np.ndarray) -> np.ndarray:
    """Puts the targets of a pixel into one byte.

    Args:
        seg_maps: uint8 0/1 (..., 6).
        training_mask: uint8 0/1 (...).

    Returns:
        uint8 (...): kernel i in bit i, the training mask in bit 6.
    """
    # Six kernels and the mask are seven bits; an eighth channel would still fit.
    bits = np.concatenate([seg_maps, training_mask[..., np.newaxis]], axis=-1)
    return np.packbits(bits, axis=-1, bitorder='little')[..., 0]


def unpack_targets(packed: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Undoes pack_targets.

    Args:
        packed: uint8 (...).

    Returns:
        seg_maps: uint8 0/1 (..., 6).
        training_mask: uint8 0/1 (..., 1).
    """
    bits = np.unpackbits(packed[..., np.newaxis], axis=-1, bitorder='little')
    return bits[..., :cfg.NUM_KERNELS], bits[..., cfg.NUM_KERNELS:cfg.NUM_KERNELS + 1]


class BatchBuilder:
    """Makes batches by their number.

    Args:
        samples: the usable images.
        options: what shapes a batch.
    """

    def __init__(self, samples: List[Sample], options: BatchOptions):
        self._samples = samples
        self._options = options
        self._side = options.input_size // cfg.STRIDE
        self._broken = set()
        self._epoch = None
        self._order = None

    def __call__(self, number: int) -> PackedBatch:
        """Makes the batch of this number, counted from 0.

        A file that cannot be read is named in the first batch that meets with it, and not tried
        again. A position that finds no sample in MAX_DRAWS draws ends the batch early.
        """
        batch_size, size, side = self._options.batch_size, self._options.input_size, self._side
        images = np.empty((batch_size, size, size, 3), np.uint8)
        targets = np.empty((batch_size, side, side), np.uint8)
        indices, report = [], BatchReport()
        for position in range(batch_size):
            found = self._find_sample(number, self._options.rank * batch_size + position, report)
            if found is None:
                break
            index, image, plan = found
            indices.append(index)
            images[position] = self._picture(image, plan)
            targets[position] = self._targets(plan)
        return PackedBatch(tuple(indices), images[:len(indices)], targets[:len(indices)], report)

    def _find_sample(self, number: int, position: int, report: BatchReport,
                     ) -> Optional[Tuple[int, np.ndarray, SamplePlan]]:
        """Index, image and plan of the first draw that works for a position of all processes."""
        rng = np.random.RandomState([self._options.seed, number, position])
        index = self._ordered_index(number * self._options.global_batch_size + position)
        for _ in range(MAX_DRAWS):
            sample = self._samples[index]
            plan = plan_sample(sample.size, sample.polygons, sample.ignore_tags,
                               self._options.input_size, self._options.min_crop_side_ratio, rng)
            if plan is None:
                report.skipped_draws += 1
            else:
                image = self._read(index, report)
                if image is not None:
                    return index, image, plan
            index = rng.randint(len(self._samples))
        return None

    def _ordered_index(self, draw: int) -> int:
        epoch, place = divmod(draw, len(self._samples))
        if epoch != self._epoch:
            rng = np.random.RandomState([self._options.seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._samples))
        return int(self._order[place])

    def _read(self, index: int, report: BatchReport) -> Optional[np.ndarray]:
        # Files known as broken are passed over only here, after the draws of the plan: what a
        # position draws must not depend on what this process has seen.
        if index in self._broken:
            return None
        sample = self._samples[index]
        try:
            image = read_image(sample.image_path)
            if image.shape[:2] != tuple(sample.size):
                raise ImageError(f'The image {sample.image_path} is no longer of the size that '
                                 'it had at the start.')
        except ImageError as error:
            self._broken.add(index)
            report.unreadable[index] = str(error)
            return None
        return image

    def _picture(self, image: np.ndarray, plan: SamplePlan) -> np.ndarray:
        return cv2.cvtColor(render_sample(image, plan, self._options.input_size),
                            cv2.COLOR_BGR2RGB)

    def _targets(self, plan: SamplePlan) -> np.ndarray:
        size = (self._options.input_size, self._options.input_size)
        seg_maps, training_mask = generate_seg(size, plan.polygons, plan.ignore_tags)
        return pack_targets(seg_maps[::cfg.STRIDE, ::cfg.STRIDE],
                            training_mask[::cfg.STRIDE, ::cfg.STRIDE])
