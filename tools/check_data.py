"""Checks a training directory: its contents, its faults, and how much of it can be learnt.

    python -m tools.check_data --training_data_path=./ocr/icdar2015/ --out=data.png

Files are read as in training, and the counts are those that train.py logs at the start. In
addition every image is decoded, and each problem is listed: images without labels, labels without
an image, unreadable files, regions of less than one square pixel inside their image.

A region survives at a shrink ratio and an input size if its kernel has at least --min_area pixels
on the score maps, which have a quarter of the input's resolution; eval.py finds no text whose
smallest kernel has fewer. "Whole" resizes each image to a square of the input size; "crops" scales
and crops it at random 4 times, as training does.
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
from utils.data_provider.datasets import Inspection, inspect_dataset, open_sample, split_mixture
from utils.data_provider.survey import Survey
from utils.errors import PSENetError
from utils.image_io import ImageError, read_image
from utils.utils_tool import logger


def survey_images(inspection: Inspection, survey: Survey, max_image_pixels: int) -> Inspection:
    """Decodes every image, with a progress bar, and surveys those that can be decoded.

    Args:
        inspection: inspection of the directory. Unchanged.
        survey: receives the samples.
        max_image_pixels: larger images are not decoded.

    Returns:
        The inspection with undecodable samples moved to its findings.
    """
    samples, broken, counts = [], [], inspection.counts
    for number in tqdm(range(len(inspection.samples)), desc='checking', unit='image'):
        sample = inspection.samples[number]
        try:
            read_image(sample.image_path, max_pixels=max_image_pixels)
            sample = open_sample(sample)
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
    """Parses --input_sizes.

    Raises:
        PSENetError: a size is not a multiple of 32, or the ratio is invalid.
    """
    if not texts or not all(text.strip().isdigit() for text in texts):
        raise PSENetError(f'--input_sizes={",".join(texts)} must be integers separated '
                          'by commas, such as 512,640')
    for text in texts:
        check_options(BatchOptions(int(text), 1, 0, min_crop_side_ratio))
    return tuple(map(int, texts))


def define_check_flags() -> None:
    """Defines the flags of this command."""
    define_folder_flags()
    group = cli.group('report')
    flags.DEFINE_boolean('labels_only', False, 'Check the labels without images; sizes and '
                         'survival are not reported.', **group)
    flags.DEFINE_list('input_sizes', ['320', '512', '640', '960'], 'Sides in pixels of the '
                      "network's input for which survival is reported.", **group)
    flags.DEFINE_integer('min_area', DetectConfig().min_area_thresh, 'Pixels of the score maps '
                         "that a kernel needs to survive; eval.py's --min_area_thresh.", 1, **group)
    flags.DEFINE_integer('show', 20, 'Number of findings of each kind to print; 0 for all.', 0,
                         **group)
    flags.DEFINE_boolean('strict', False, 'Exit with 1 if there are any findings.', **group)
    cli.define_path('out', './data.png', 'Image file to write: sizes and survival.', **group)


def main(_: List[str]) -> int:
    """Checks the directory that the flags name; returns the exit code."""
    values = flags.FLAGS
    sizes = parse_sizes(values.input_sizes, values.min_crop_side_ratio)
    directory = values.training_data_path
    if len(split_mixture(directory)) > 1:
        raise PSENetError(f'--training_data_path={directory} names several sets; check one at a '
                          'time')
    inspection = inspect_dataset(directory, values.dataset, values.max_image_pixels,
                                 values.apply_exif_orientation, values.label_path,
                                 values.labels_only)
    survey = Survey(sizes, values.min_crop_side_ratio, values.min_area)
    if not values.labels_only:
        inspection = survey_images(inspection, survey, values.max_image_pixels)
    cli.print_text(format_report(directory, inspection, survey, values.show))
    if survey.sizes:
        draw_survey(survey, values.out)
        logger.info('charts are in %s', values.out)
    if values.labels_only and not inspection.counts.labels:
        raise PSENetError(f'{directory} contains no labels of a supported format; docs/data.md '
                          'lists the formats')
    if not values.labels_only:
        check_dataset(directory, inspection.counts,
                      BatchOptions(sizes[0], 1, 0, values.min_crop_side_ratio))
    return int(values.strict and any(inspection.findings))


if __name__ == '__main__':
    define_check_flags()
    cli.run(main, __doc__)
