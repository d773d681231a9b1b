"""Checks a training folder: what is in it, what is wrong with it, and how much of it can be learnt.

    python -m tools.check_data --training_data_path=./ocr/icdar2015/ --out=data.png

Everything is read as training reads it; the counts are those that train.py logs at its start. Here
every image is decoded as well, and each finding is named: images without a label file, label files
without an image, files that cannot be read, regions of less than one square pixel in their image.

A region survives at a ratio and an input size when that kernel of it has at least --min_area pixels
on the score maps, which have a fourth of the input's resolution: eval.py finds no text whose
smallest kernel is smaller. "Whole" resizes each image to a square of the input size; "crops" scales
and cuts it at random, as training does, 4 times.
"""

from typing import List, Tuple

from absl import flags
from tqdm import tqdm

from inference.config import DetectConfig
from tools.data_report import draw_survey, format_report
from training.config import define_folder_flags
from utils import cli
from utils.data_provider.batching import BatchOptions, check_options
from utils.data_provider.data_provider import check_dataset
from utils.data_provider.datasets import Inspection, inspect_dataset, opened, split_mixture
from utils.data_provider.survey import Survey
from utils.errors import PSENetError
from utils.image_io import ImageError, read_image
from utils.utils_tool import logger


def survey_images(inspection: Inspection, survey: Survey, max_image_pixels: int) -> Inspection:
    """Decodes every image behind a progress bar, and has the good ones surveyed.

    Args:
        inspection: of the folder. Unchanged.
        survey: takes the samples in.
        max_image_pixels: an image with more is not decoded.

    Returns:
        The inspection without the samples that cannot be decoded, which are among its findings.
    """
    samples, broken, counts = [], [], inspection.counts
    for number in tqdm(range(len(inspection.samples)), desc='checking', unit='image'):
        sample = inspection.samples[number]
        try:
            read_image(sample.image_path, max_pixels=max_image_pixels)
            sample = opened(sample)
        except ImageError as error:
            broken.append(str(error))
            counts = counts.without(sample)
            continue
        survey.add(sample)
        samples.append(sample)
    findings = inspection.findings
    return Inspection(samples, counts,
                      findings._replace(unreadable=findings.unreadable + broken))


def parse_sizes(texts: List[str], min_crop_side_ratio: float) -> Tuple[int, ...]:
    """Reads --input_sizes.

    Raises:
        PSENetError: one is not a multiple of 32, or the ratio cannot be.
    """
    if not texts or not all(text.strip().isdigit() for text in texts):
        raise PSENetError(f'--input_sizes={",".join(texts)} must be whole numbers with commas '
                          'between them, such as 512,640')
    for text in texts:
        check_options(BatchOptions(int(text), 1, 0, min_crop_side_ratio))
    return tuple(map(int, texts))


def define_check_flags() -> None:
    """Defines the flags of this command."""
    define_folder_flags()
    group = cli.group('report')
    flags.DEFINE_boolean('labels_only', False, 'Look at the labels alone, where there are no '
                         'images; sizes and survival are left out.', **group)
    flags.DEFINE_list('input_sizes', ['320', '512', '640', '960'], 'Sides in pixels of the '
                      "network's input to tell the survival of regions at.", **group)
    flags.DEFINE_integer('min_area', DetectConfig().min_area_thresh, 'Pixels of the score maps '
                         "that a kernel needs to survive; eval.py's --min_area_thresh.", 1, **group)
    flags.DEFINE_integer('show', 20, 'Findings of each kind that are printed; 0 for all.', 0,
                         **group)
    flags.DEFINE_boolean('strict', False, 'End with exit code 1 where anything was found.', **group)
    cli.define_path('out', './data.png', 'Image file to write: sizes and survival.', **group)


def main(_: List[str]) -> int:
    """Checks the folder that the flags name; returns the process's exit code."""
    values = flags.FLAGS
    sizes = parse_sizes(values.input_sizes, values.min_crop_side_ratio)
    folder = values.training_data_path
    if len(split_mixture(folder)) > 1:
        raise PSENetError(f'--training_data_path={folder} names several sets; check one at a time')
    inspection = inspect_dataset(folder, values.dataset, values.max_image_pixels,
                                 values.apply_exif_orientation, values.label_path,
                                 values.labels_only)
    survey = Survey(sizes, values.min_crop_side_ratio, values.min_area)
    if not values.labels_only:
        inspection = survey_images(inspection, survey, values.max_image_pixels)
    cli.print_text(format_report(folder, inspection, survey, values.show))
    if survey.sizes:
        draw_survey(survey, values.out)
        logger.info('the picture is in %s', values.out)
    if values.labels_only and not inspection.counts.labels:
        raise PSENetError(f'{folder} holds no labels of a form that can be read; docs/data.md has '
                          'the forms')
    if not values.labels_only:
        check_dataset(folder, inspection.counts,
                      BatchOptions(sizes[0], 1, 0, values.min_crop_side_ratio))
    return int(values.strict and any(inspection.findings))


if __name__ == '__main__':
    define_check_flags()
    cli.run(main, __doc__)
