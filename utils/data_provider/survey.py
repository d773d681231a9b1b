"""What a data set offers to training: sizes, and how much of its text is left in the kernels.

Text that is small in the network's input shrinks to kernels of few pixels on the score maps, or of
none: it can hardly be learnt, and not be found by a post-processing that drops small seeds.
"""

from typing import List, NamedTuple, Sequence

import cv2
import numpy as np

from utils.data_provider.augment import plan_sample
from utils.data_provider.datasets import Sample
from utils.data_provider.targets import generate_seg
from utils.utils_tool import cfg

# Crops of each image; their mean settles quickly, for every image has some.
DRAWS = 4


def kernel_areas(polygon: np.ndarray, side: int) -> np.ndarray:
    """Counts the pixels that the kernels of a region have on the score maps, as training draws it.

    A region that vanishes at any ratio is in no kernel: training leaves it out altogether.

    Args:
        polygon: float32 (P, 2), x and y in pixels of the network's input.
        side: of that input, in pixels.

    Returns:
        int (6,), smallest kernel first.
    """
    # The map need not go on beyond the region.
    width, height = np.clip(np.ceil(polygon.max(axis=0)).astype(int) + 1, 1, side)
    maps, _ = generate_seg((height, width), [polygon], [False])
    return maps[::cfg.STRIDE, ::cfg.STRIDE].sum(axis=(0, 1), dtype=int)


class Survival(NamedTuple):
    """How many regions have kernels of sufficient area at an input size."""

    input_size: int
    whole: np.ndarray       # int (6,), when images are resized as a whole
    whole_regions: int      # of so many
    crops: np.ndarray       # int (6,), when they are scaled and cut at random, as in training
    crop_regions: int       # of so many

    def shares(self) -> np.ndarray:
        """float64 (2, 6), 0..1: for whole images and for crops; nan where there is no region."""
        with np.errstate(invalid='ignore'):
            return np.stack([np.divide(self.whole, self.whole_regions),
                             np.divide(self.crops, self.crop_regions)])


class Survey:
    """Accumulates statistics over samples; regions are those to be learnt.

    Args:
        input_sizes: sides of the network's input in pixels.
        min_crop_side_ratio: as min_side_ratio of augment.draw_crop.
        min_area: pixels of the score maps that a kernel needs to survive.

    Attributes:
        sizes: (height, width) of each image.
        regions: how many each image has.
        learnt_sides: shorter side of each region in pixels of its image.
        ignored_sides: the same of those that are not to be learnt.
        survivals: one for each of the input sizes.
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
        """Takes a sample in; its crops follow from how many came before it."""
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
