"""Draws training samples as the network sees them: crop with regions, six kernels, mask.

    python -m tools.browse_dataset --training_data_path=./ocr/icdar2015/ --seed=7 --out=samples.png

Each row is a sample, in the order of the batches; train.py with the same flags sees the same
samples (multiply --batch_size_per_gpu by the number of devices). Ignored regions have red outlines
and are excluded from the mask (green: counted in the loss).
"""

import os
from typing import Iterator, List, NamedTuple

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training.config import define_folder_flags, define_sample_flags, read_flags
from utils import cli
from utils.data_provider.augment import SamplePlan
from utils.data_provider.batching import MAX_DRAWS, BatchBuilder, BatchOptions, check_options
from utils.data_provider.data_provider import check_dataset, choose_seed
from utils.data_provider.datasets import Mixture, Sample, load_mixture, open_sample
from utils.errors import PSENetError
from utils.image_io import write_image
from utils.utils_tool import cfg, logger
from utils.visualize import contact_sheet, draw_quads, text_line, tint

# BGR.
_LEARNT, _IGNORED, _MASK = (80, 230, 80), (60, 60, 255), (90, 190, 90)
_PANEL = 208
_CAPTION = 26
# Image viewers limit the height of the sheet.
_MAX_COUNT = 100


class Shown(NamedTuple):
    """A training sample and its origin."""

    caption: str
    image: np.ndarray           # uint8 (S, S, 3), RGB
    seg_maps: np.ndarray        # uint8 (S/4, S/4, 6), as of BatchArrays
    training_mask: np.ndarray   # uint8 (S/4, S/4), 0 or 1
    plan: SamplePlan


def make_samples(mixture: Mixture, options: BatchOptions, first_batch: int) -> Iterator[Shown]:
    """Generates the samples of the training batches, in order, without end.

    Args:
        mixture: the usable images.
        options: options of the batches.
        first_batch: number of the first batch.

    Yields:
        The samples.

    Raises:
        PSENetError: too few images can be read or have a crop.
    """
    build, number = BatchBuilder(mixture.samples, options, shares=mixture.shares), first_batch
    while True:
        arrays = options.layout.allocate()
        report, plans = build.with_plans(number, arrays)
        for message in report.unreadable.values():
            logger.warning('%s; skipped', message)
        for place, (index, plan) in enumerate(zip(report.indices, plans)):
            caption = _caption(number, place, open_sample(mixture.samples[index]), plan)
            yield Shown(caption, arrays.images[place], arrays.seg_maps[place],
                        arrays.training_masks[place, ..., 0], plan)
        if len(plans) < options.batch_size:
            raise PSENetError(f'{MAX_DRAWS} draws in a row gave no sample for batch {number}')
        number += 1


def _caption(number: int, place: int, sample: Sample, plan: SamplePlan) -> str:
    left, top, right, bottom = plan.box
    height, width = plan.scaled_size
    regions = 'background'
    if plan.polygons:
        regions = f'regions: {len(plan.polygons)}, ignored: {plan.ignore_tags.sum()}'
    return (f'batch {number}, sample {place}: {os.path.basename(sample.image_path)} '
            f'({sample.size[1]} x {sample.size[0]} pixels), scaled to {width} x {height}, '
            f'crop {right - left} x {bottom - top}, {regions}')


def draw_row(sample: Shown) -> List[np.ndarray]:
    """Draws the panels of a sample, uint8 (H, W, 3), BGR each."""
    picture = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
    scale = _PANEL / picture.shape[0]
    small = cv2.resize(picture, (_PANEL, _PANEL), interpolation=cv2.INTER_AREA)
    outlined = small
    for ignored, colour in ((False, _LEARNT), (True, _IGNORED)):
        outlined = draw_quads(outlined, [polygon * scale for polygon, tag in zip(
            sample.plan.polygons, sample.plan.ignore_tags) if tag == ignored], colour)
    # Soft labels go up to the pixels of a cell.
    inside = 2 * sample.seg_maps > max(1, sample.seg_maps.max())
    return [outlined, *(tint(small, kernel, _LEARNT) for kernel in np.moveaxis(inside, -1, 0)),
            tint(small, sample.training_mask, _MASK)]


def draw_sheet(samples: List[Shown]) -> np.ndarray:
    """Draws a caption and a row of panels for each sample; uint8 (H, W, 3), BGR."""
    titles = ['crop', *(f'kernel {scale}' for scale in cfg.KERNEL_SCALES), 'training mask']
    # Panels have a gap of two pixels on each side.
    cell = (_PANEL + 4, _PANEL + 4)
    rows = [np.hstack([text_line(title, (cell[0], _CAPTION)) for title in titles])]
    for sample in samples:
        rows.append(text_line(sample.caption, (cell[0] * len(titles), _CAPTION)))
        rows.append(contact_sheet([np.pad(panel, ((2, 2), (2, 2), (0, 0)), 'constant')
                                   for panel in draw_row(sample)], len(titles), cell))
    return np.vstack(rows)


def define_browse_flags() -> None:
    """Defines the flags of this command."""
    define_folder_flags()
    define_sample_flags()
    group = cli.group('sheet')
    flags.DEFINE_integer('count', 8, 'Samples on the sheet.', 1, _MAX_COUNT, **group)
    flags.DEFINE_integer('first_batch', 0, 'First batch: step n of a run, counted from 1, uses '
                         'batch n - 1.', 0, **group)
    cli.define_path('out', './samples.png', 'Image file to write.', **group)


def main(_: List[str]) -> None:
    """Draws the samples that the flags select."""
    values = flags.FLAGS
    config = read_flags(values)
    options = BatchOptions(config.input_size, config.batch_size_per_gpu, config.seed,
                           config.min_crop_side_ratio, augmentation=config.augmentation,
                           soft_labels=config.soft_labels)
    check_options(options)
    mixture = load_mixture(values.training_data_path, values.dataset, values.max_image_pixels,
                           values.apply_exif_orientation, values.label_path)
    check_dataset(values.training_data_path, mixture.counts, options)
    options = options._replace(seed=choose_seed(values.seed))
    made = make_samples(mixture, options, values.first_batch)
    with logging_redirect_tqdm([logger]), \
            tqdm(range(values.count), desc='drawing', unit='sample') as bar:
        shown = [next(made) for _ in bar]
    write_image(values.out, draw_sheet(shown))
    logger.info('%d training samples are in %s', len(shown), values.out)


if __name__ == '__main__':
    define_browse_flags()
    cli.run(main, __doc__)
