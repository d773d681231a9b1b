"""A folder of images and annotation files to an index of samples, with an account of what it holds.

A dataset is a name in DATASETS: how its annotation files are called and how they are read. To add
one, write a parser in `annotation` and an entry here.
"""

import os
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from utils.data_provider.annotation import (
    Annotation,
    AnnotationError,
    read_icdar,
    read_icdar2013,
    read_icdar2015,
)
from utils.errors import PSENetError
from utils.geometry import validate_polygons
from utils.image_io import MAX_IMAGE_PIXELS, ImageError, is_image_name, read_image_size
from utils.utils_tool import logger


class DatasetFormat(NamedTuple):
    """What sets one dataset apart from another."""

    read: Callable[[str], Annotation]
    label_stems: Tuple[str, ...]    # stem of the label file from that of the image, first wins


_ICDAR_STEMS = ('{stem}', 'gt_{stem}')
DATASETS: Dict[str, DatasetFormat] = {
    'icdar': DatasetFormat(read_icdar, _ICDAR_STEMS),
    'icdar2013': DatasetFormat(read_icdar2013, _ICDAR_STEMS),
    'icdar2015': DatasetFormat(read_icdar2015, _ICDAR_STEMS),
}


class Sample(NamedTuple):
    """An image that is fit for training, and its valid regions."""

    image_path: str
    size: Tuple[int, int]           # (height, width) in pixels
    polygons: List[np.ndarray]      # float32 (P, 2) each, x and y in pixels, clockwise
    ignore_tags: np.ndarray         # bool (N,)


class DatasetCounts(NamedTuple):
    """What was found in a folder, and what reading it has met with since; str() is one line."""

    images: int = 0
    labels: int = 0                 # text files
    pairs: int = 0                  # images with a label file
    usable_images: int = 0          # pairs of which both files can be read
    boxes: int = 0
    ignored_boxes: int = 0          # tagged as not to be learnt, and valid
    invalid_polygons: int = 0       # with next to no area inside of the image
    unreadable: int = 0             # pairs of which a file cannot be read
    skipped_draws: int = 0          # crops that could not be had, while batches were made

    @property
    def usable_regions(self) -> int:
        """Regions that can be learnt from."""
        return self.boxes - self.ignored_boxes - self.invalid_polygons

    def without(self, sample: Sample) -> 'DatasetCounts':
        """The counts once a sample has turned out not to be usable."""
        return self._replace(
            usable_images=self.usable_images - 1, unreadable=self.unreadable + 1,
            boxes=self.boxes - len(sample.polygons),
            ignored_boxes=self.ignored_boxes - int(sample.ignore_tags.sum()))

    def __str__(self) -> str:
        return (f'{self.images} images, {self.labels} labels, {self.pairs} pairs, '
                f'{self.unreadable} unreadable, {self.usable_images} usable images; '
                f'{self.boxes} boxes, {self.ignored_boxes} ignored, '
                f'{self.invalid_polygons} invalid, {self.usable_regions} usable regions')


class Findings(NamedTuple):
    """What keeps a folder from being used as a whole; all in the order of the files' names."""

    unlabelled_images: List[str]    # paths of images without a label file
    unused_labels: List[str]        # paths of text files that belong to no image
    unreadable: List[str]           # a sentence for each pair of which a file cannot be read
    invalid_polygons: List[str]     # 'path:line' of each region


class Inspection(NamedTuple):
    """All that can be told of a folder without decoding its images."""

    samples: List[Sample]
    counts: DatasetCounts
    findings: Findings


def load_dataset(folder: str, dataset: str = 'icdar', max_image_pixels: int = MAX_IMAGE_PIXELS,
                 ) -> Tuple[List[Sample], DatasetCounts]:
    """Inspects a folder for training.

    A pair that cannot be read costs one warning and is left out; so do the images without a label
    file, all together.

    Args, Raises: as inspect_dataset.

    Returns:
        The usable samples, sorted by file name, and the counts.
    """
    samples, counts, findings = inspect_dataset(folder, dataset, max_image_pixels)
    _warn_unpaired(folder, findings.unlabelled_images)
    for sentence in findings.unreadable:
        logger.warning('A sample is left out. %s', sentence)
    return samples, counts


def inspect_dataset(folder: str, dataset: str = 'icdar', max_image_pixels: int = MAX_IMAGE_PIXELS,
                    ) -> Inspection:
    """Pairs images with label files, reads the labels and the images' sizes, and counts.

    Args:
        folder: holds images and label files side by side; sub-folders are not entered.
        dataset: a name in DATASETS.
        max_image_pixels: a larger image counts as one that cannot be read.

    Returns:
        The usable samples, sorted by file name, the counts, and what is wrong with the rest.

    Raises:
        PSENetError: the dataset is unknown, or the folder cannot be listed.
    """
    if dataset not in DATASETS:
        raise PSENetError(f'There is no dataset "{dataset}"; choose one of {", ".join(DATASETS)}.')
    names = _list_files(folder)
    images = [name for name in names if is_image_name(name)]
    labels = [name for name in names if _is_label_name(name)]
    pairs = pair_files(names, DATASETS[dataset].label_stems)
    used = set(pairs.values())
    findings = Findings(
        [os.path.join(folder, name) for name in images if name not in pairs],
        [os.path.join(folder, name) for name in labels if name not in used], [], [])

    samples, regions = [], DatasetCounts()
    for image, label in pairs.items():
        try:
            sample, invalid = _read_pair(
                os.path.join(folder, image), os.path.join(folder, label), DATASETS[dataset].read,
                max_image_pixels)
        except (AnnotationError, ImageError) as error:
            findings.unreadable.append(str(error))
            continue
        samples.append(sample)
        findings.invalid_polygons.extend(invalid)
        regions = regions._replace(
            boxes=regions.boxes + len(sample.polygons) + len(invalid),
            ignored_boxes=regions.ignored_boxes + int(sample.ignore_tags.sum()))
    return Inspection(samples, regions._replace(
        images=len(images), labels=len(labels), pairs=len(pairs), usable_images=len(samples),
        invalid_polygons=len(findings.invalid_polygons), unreadable=len(findings.unreadable),
    ), findings)


def pair_files(names: List[str], label_stems: Tuple[str, ...]) -> Dict[str, str]:
    """Finds the label file of each image by name, the extension in any case.

    Args:
        names: names of all files in the folder.
        label_stems: how the label's stem follows from the image's, as in DatasetFormat.

    Returns:
        Name of the label file by name of the image, in the order given; images without one are
        left out.
    """
    labels = {os.path.splitext(name)[0]: name for name in names if _is_label_name(name)}
    pairs = {}
    for image in filter(is_image_name, names):
        stem = os.path.splitext(image)[0]
        found = [pattern.format(stem=stem) for pattern in label_stems]
        found = [label for label in found if label in labels]
        if found:
            pairs[image] = labels[found[0]]
    return pairs


def _is_label_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() == '.txt'


def _list_files(folder: str) -> List[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise PSENetError(f'The training data folder {folder} cannot be listed: '
                          f'{error.strerror or error}.') from None


def _warn_unpaired(folder: str, images: List[str]) -> None:
    if images:
        logger.warning('%d images in %s have no label file of the same name (X.txt or gt_X.txt) '
                       'and are left out, %s first.', len(images), folder,
                       os.path.basename(images[0]))


def _read_pair(image_path: str, label_path: str, read: Callable[[str], Annotation],
               max_image_pixels: int) -> Tuple[Sample, List[str]]:
    """The sample, and where in its file the regions stand that are not valid."""
    annotation = read(label_path)
    size = read_image_size(image_path, max_image_pixels)
    polygons, valid = validate_polygons(annotation.polygons, size)
    sample = Sample(image_path, size, polygons, annotation.ignore_tags[valid])
    return sample, [f'{label_path}:{line}' for line, is_valid in zip(annotation.lines, valid)
                    if not is_valid]
