"""Converts the labels of any supported data set to one text file of polygons per image.

    python -m tools.convert_labels --training_data_path=./total_text/ --output_dir=./labels/

For image X, gt_X.txt has lines of x1,y1,...,xn,yn,text in the order of the original labels; ignored
regions have the text ###. Coordinates are kept, rounded to a hundredth of a pixel; regions of fewer
than three points are dropped and counted. The images are not needed. train.py reads the result by
--label_path and detects its format: icdar if all polygons have four points, otherwise total_text.
The exit code is 3 if a label file could not be read.
"""

import functools
import os
import posixpath
from typing import Callable, Iterator, List, NamedTuple, Tuple

from absl import flags
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from inference.results import make_folder
from utils import cli
from utils.data_provider.annotation import Annotation, AnnotationError, parse_number
from utils.data_provider.datasets import open_listing
from utils.data_provider.formats import IGNORED, SynthTextIndex
from utils.data_provider.pairing import AUTO, DATASETS, SYNTHTEXT, pair
from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import logger

EXIT_UNREADABLE = 3


def format_labels(annotation: Annotation) -> str:
    """Formats the regions of an image, one line per region of three or more points."""
    lines = []
    for polygon, ignored, text in zip(annotation.polygons, annotation.ignore_tags,
                                      annotation.texts):
        if len(polygon) < 3:
            continue
        numbers = [f'{value:.2f}'.rstrip('0').rstrip('.') for value in polygon.ravel()]
        word = IGNORED if ignored else _quoted(' '.join(text.split()))
        lines.append(','.join([*numbers, word]) + '\n')
    return ''.join(lines)


def _quoted(text: str) -> str:
    """Quotes a text whose beginning could be read as another point."""
    first, comma, _ = text.partition(',')
    try:
        parse_number(first)
    except ValueError:
        return text
    return f'"{text}"' if comma else text


def read_labels(directory: str, dataset: str, label_folder: str,
                ) -> Iterator[Tuple[str, Callable[[], Annotation]]]:
    """Finds the labels of a data set; no images are needed.

    Args:
        directory: of the data set.
        dataset: format of the labels, as of --dataset.
        label_folder: directory of the labels, as of --label_path.

    Yields:
        For each image its path, relative to the directory, and a function that reads its regions.

    Raises:
        PSENetError: a label file for several images cannot be read.
    """
    listing, dataset = open_listing(directory, dataset, label_folder, labels_only=True)
    if dataset == SYNTHTEXT:
        index = SynthTextIndex(os.path.join(listing.label_folder, DATASETS[SYNTHTEXT].index),
                               with_texts=True)
        found = ((index.name(number), functools.partial(index.read, number))
                 for number in range(len(index)))
        yield from tqdm(found, 'converting', len(index), unit='image')
        return
    for each in tqdm(pair(listing, DATASETS[dataset]).pairs, desc='converting', unit='image'):
        yield os.path.relpath(each.image_path, listing.image_folder), each.read


class Converted(NamedTuple):
    """Counts of a conversion."""

    files: int = 0
    regions: int = 0
    dropped: int = 0        # regions of fewer than three points
    unreadable: int = 0     # label files


def convert(directory: str, dataset: str, label_folder: str, output_dir: str) -> Converted:
    """Writes the labels of a data set to files; unreadable labels are skipped with a warning.

    Args:
        directory: of the data set.
        dataset: format of the labels, as of --dataset.
        label_folder: directory of the labels, as of --label_path.
        output_dir: output directory; subdirectories are those of the images.

    Raises:
        PSENetError: a label file for several images cannot be read, or a file cannot be written.
    """
    counts = Converted()
    for name, read in read_labels(directory, dataset, label_folder):
        try:
            annotation = read()
        except AnnotationError as error:
            logger.warning('%s; skipped', error)
            counts = counts._replace(unreadable=counts.unreadable + 1)
            continue
        below, base = posixpath.split(name.replace(os.sep, '/'))
        target = os.path.join(output_dir, *(part for part in below.split('/')
                                            if part not in ('', '..')))
        make_folder(target)
        text = format_labels(annotation)
        with replacing(os.path.join(target, f'gt_{os.path.splitext(base)[0]}.txt')) as temporary, \
                open(temporary, 'w', encoding='utf-8') as stream:
            stream.write(text)
        written = text.count('\n')
        counts = counts._replace(files=counts.files + 1, regions=counts.regions + written,
                                 dropped=counts.dropped + len(annotation.polygons) - written)
    return counts


def define_convert_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('files')
    cli.define_path('training_data_path', './ocr/icdar2015/', 'Directory of the data set.', **group)
    cli.define_path('label_path', '', 'Directory with the labels, if not that of the images.',
                    **group)
    flags.DEFINE_enum('dataset', AUTO, [AUTO, *DATASETS], 'Format of the labels.', **group)
    cli.define_path('output_dir', './labels/', 'Output directory, created if missing. Files of the '
                    'same names are replaced.', **group)


def main(_: List[str]) -> int:
    """Converts the labels that the flags name; returns the exit code."""
    values = flags.FLAGS
    source = values.label_path or values.training_data_path
    if os.path.realpath(values.output_dir) == os.path.realpath(source):
        raise PSENetError(f'--output_dir={values.output_dir} is the directory of the labels, which '
                          'would be overwritten; choose another one')
    make_folder(values.output_dir)
    with logging_redirect_tqdm([logger]):
        counts = convert(values.training_data_path, values.dataset, values.label_path,
                         values.output_dir)
    if not counts.files + counts.unreadable:
        raise AnnotationError(f'{source} has no labels of a supported format; docs/data.md lists '
                              'the formats')
    logger.info('%d regions of %d images are in %s; %d of fewer than three points were dropped',
                counts.regions, counts.files, values.output_dir, counts.dropped)
    return EXIT_UNREADABLE if counts.unreadable else 0


if __name__ == '__main__':
    define_convert_flags()
    cli.run(main, __doc__)
