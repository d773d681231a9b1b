"""Statistics of a data set: sizes, and how many regions have kernels large enough to learn.

Text that is small in the network's input has kernels of a few score map pixels or none: it can
hardly be learnt, and post-processing drops small seeds.
"""

from typing import List, NamedTuple, Sequence

import cv2
import numpy as np

from utils.data_provider.augment import plan_sample
from utils.data_provider.datasets import Sample
from utils.data_provider.targets import generate_seg
from utils.utils_tool import cfg

# Crops per image.
DRAWS = 4


def kernel_areas(polygon: np.ndarray, side: int) -> np.ndarray:
    """Counts the score map pixels of a region's kernels, as drawn for training.

    All counts are 0 if any kernel is empty, as training then ignores the region.

    Args:
        polygon: float32 (P, 2), x and y in pixels of the network's input.
        side: of the input, in pixels.

    Returns:
        int (6,), smallest kernel first.
    """
    # The map may end where the region ends.
    width, height = np.clip(np.ceil(polygon.max(axis=0)).astype(int) + 1, 1, side)
    maps, _ = generate_seg((height, width), [polygon], [False])
    return maps[::cfg.STRIDE, ::cfg.STRIDE].sum(axis=(0, 1), dtype=int)


class Survival(NamedTuple):
    """How many regions have kernels of sufficient area at an input size."""

    input_size: int
    whole: np.ndarray       # int (6,), regions with such kernels if whole images are resized
    whole_regions: int      # all regions
    crops: np.ndarray       # int (6,), the same for random crops, as in training
    crop_regions: int

    def shares(self) -> np.ndarray:
        """Returns float64 (2, 6), 0..1, for whole images and for crops; nan without regions."""
        with np.errstate(invalid='ignore'):
            return np.stack([np.divide(self.whole, self.whole_regions),
                             np.divide(self.crops, self.crop_regions)])


class Survey:
    """Accumulates statistics over samples.

    Args:
        input_sizes: sides of the network's input in pixels.
        min_crop_side_ratio: as min_side_ratio of augment.draw_crop.
        min_area: score map pixels that a kernel needs to survive.

    Attributes:
        sizes: (height, width) of each image.
        regions: number of regions to learn in each image.
        learnt_sides: shorter side of each region to learn, in pixels of its image.
        ignored_sides: the same for ignored regions.
        survivals: one for each input size.
    """

    def __init__(self, input_sizes: Sequence[int], min_crop_side_ratio: float, min_area: int):
        self._min_area = min_area
        self._min_crop_side_ratio = min_crop_side_ratio
        self.sizes: List[tuple] = []
        self.regions: List[int] = []
        self.learnt_sides: List[float] = []
        self.ignored_sides: List[float] = []
        self.survivals = [Survival(size, np.zeros(cfg.NUM_KERNELS, int), 0,
                                   np.zeros(cfg.NUM_KERNELS, int), 0) for size in input_sizes]

    def add(self, sample: Sample) -> None:
        """Adds a sample; its number is the seed of its crops."""
        number = len(self.sizes)
        self.sizes.append(sample.size)
        self.regions.append(int((~sample.ignore_tags).sum()))
        for polygon, ignored in zip(sample.polygons, sample.ignore_tags):
            sides = self.ignored_sides if ignored else self.learnt_sides
            sides.append(min(cv2.minAreaRect(polygon)[1]))
        self.survivals = [self._with(survival, sample, number) for survival in self.survivals]

    def _with(self, survival: Survival, sample: Sample, number: int) -> Survival:
        side = survival.input_size
        zoom = np.float32([side / sample.size[1], side / sample.size[0]])
        whole = [polygon * zoom for polygon in _learnt(sample.polygons, sample.ignore_tags)]
        cropped = self._draw_crops(sample, side, np.random.RandomState(number))
        return Survival(side, survival.whole + self._count(whole, side),
                        survival.whole_regions + len(whole),
                        survival.crops + self._count(cropped, side),
                        survival.crop_regions + len(cropped))

    def _draw_crops(self, sample: Sample, side: int, rng: np.random.RandomState,
                    ) -> List[np.ndarray]:
        plans = [plan_sample(sample.size, sample.polygons, sample.ignore_tags, side,
                             self._min_crop_side_ratio, rng) for _ in range(DRAWS)]
        return [polygon for plan in plans if plan is not None
                for polygon in _learnt(plan.polygons, plan.ignore_tags)]

    def _count(self, polygons: Sequence[np.ndarray], side: int) -> np.ndarray:
        return np.sum([kernel_areas(polygon, side) >= self._min_area for polygon in polygons],
                      axis=0, dtype=int)


def _learnt(polygons: Sequence[np.ndarray], ignore_tags: np.ndarray) -> List[np.ndarray]:
    return [polygon for polygon, ignored in zip(polygons, ignore_tags) if not ignored]
