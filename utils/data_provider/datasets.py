"""A folder of images and annotation files to an index of samples, with an account of what it holds.

A dataset is a name in DATASETS: how its annotation files are called and how they are read. To add
one, write a parser in `annotation` and an entry here.
"""

import collections
import os
import time
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
from utils.image_io import (
    MAX_IMAGE_PIXELS,
    ImageError,
    is_hidden,
    is_image_name,
    read_image_header,
    warn_of_other_formats,
)
from utils.utils_tool import logger


class DatasetFormat(NamedTuple):
    """What sets one dataset apart from another."""

    read: Callable[[str], Annotation]
    label_stems: Tuple[str, ...]    # stem of the label file from that of the image, first wins


# Between the lines that tell how far the reading of a large directory is.
_REPORT_SECONDS = 3.0
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
    orientation: int = 1            # EXIF orientation of the file
    apply_exif_orientation: bool = False    # whether size and polygons are those after turning


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
    orientations: Tuple[Tuple[int, int], ...] = ()  # (EXIF orientation, images), 1 left out
    apply_exif_orientation: bool = False

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
                f'{self.invalid_polygons} invalid, {self.usable_regions} usable regions'
                + self._orientation_text())

    def _orientation_text(self) -> str:
        if not self.orientations:
            return ''
        found = ', '.join(
            f'{count} {"image has" if count == 1 else "images have"} EXIF orientation {orientation}'
            for orientation, count in self.orientations)
        return (f'; {found}, which is applied' if self.apply_exif_orientation else
                f'; {found}, which is ignored (--apply_exif_orientation, if the labels were drawn '
                'on upright images)')


class Findings(NamedTuple):
    """What keeps a folder from being used as a whole; all in the order of the files' names."""

    unlabelled_images: List[str]    # paths of images without a label file
    unused_labels: List[str]        # paths of text files that belong to no image
    unreadable: List[str]           # a sentence for each pair of which a file cannot be read
    invalid_polygons: List[str]     # 'path:line' of each region
    turned_images: List[str]        # paths with the EXIF orientation that is ignored


class Inspection(NamedTuple):
    """All that can be told of a folder without decoding its images."""

    samples: List[Sample]
    counts: DatasetCounts
    findings: Findings


def load_dataset(folder: str, dataset: str = 'icdar', max_image_pixels: int = MAX_IMAGE_PIXELS,
                 apply_exif_orientation: bool = False) -> Tuple[List[Sample], DatasetCounts]:
    """Inspects a folder for training.

    A pair that cannot be read costs one warning and is left out; so do the images without a label
    file, all together.

    Args, Raises: as inspect_dataset.

    Returns:
        The usable samples, sorted by file name, and the counts.
    """
    samples, counts, findings = inspect_dataset(folder, dataset, max_image_pixels,
                                                apply_exif_orientation)
    _warn_unpaired(folder, findings.unlabelled_images)
    for sentence in findings.unreadable:
        logger.warning('%s; the sample is left out', sentence)
    return samples, counts


def inspect_dataset(folder: str, dataset: str = 'icdar', max_image_pixels: int = MAX_IMAGE_PIXELS,
                    apply_exif_orientation: bool = False) -> Inspection:
    """Pairs images with label files, reads the labels and the images' sizes, and counts.

    Images of formats that cannot be read are named in a warning.

    Args:
        folder: holds images and label files side by side; sub-folders are not entered.
        dataset: a name in DATASETS.
        max_image_pixels: a larger image counts as one that cannot be read.
        apply_exif_orientation: take the images as their EXIF orientation turns them.

    Returns:
        The usable samples, sorted by file name, the counts, and what is wrong with the rest.

    Raises:
        PSENetError: the dataset is unknown, or the folder cannot be listed.
    """
    if dataset not in DATASETS:
        raise PSENetError(f'there is no dataset "{dataset}"; choose one of {", ".join(DATASETS)}')
    names = _list_files(folder)
    warn_of_other_formats(folder, names)
    images = [name for name in names if is_image_name(name)]
    labels = [name for name in names if _is_label_name(name)]
    pairs = pair_files(names, DATASETS[dataset].label_stems)
    used = set(pairs.values())
    findings = Findings(
        [os.path.join(folder, name) for name in images if name not in pairs],
        [os.path.join(folder, name) for name in labels if name not in used], [], [], [])

    samples, regions = [], DatasetCounts()
    next_report = time.monotonic() + _REPORT_SECONDS
    for number, (image, label) in enumerate(pairs.items()):
        if time.monotonic() > next_report:
            logger.info('reading %s: %d of %d images', folder, number, len(pairs))
            next_report = time.monotonic() + _REPORT_SECONDS
        try:
            sample, invalid = _read_pair(
                os.path.join(folder, image), os.path.join(folder, label), DATASETS[dataset].read,
                max_image_pixels, apply_exif_orientation)
        except (AnnotationError, ImageError) as error:
            findings.unreadable.append(str(error))
            continue
        samples.append(sample)
        findings.invalid_polygons.extend(invalid)
        regions = regions._replace(
            boxes=regions.boxes + len(sample.polygons) + len(invalid),
            ignored_boxes=regions.ignored_boxes + int(sample.ignore_tags.sum()))
    turned = [sample for sample in samples if sample.orientation != 1]
    if not apply_exif_orientation:
        findings.turned_images.extend(
            f'{sample.image_path}: orientation {sample.orientation}' for sample in turned)
    orientations = collections.Counter(sample.orientation for sample in turned)
    return Inspection(samples, regions._replace(
        orientations=tuple(sorted(orientations.items())),
        apply_exif_orientation=apply_exif_orientation,
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
    return os.path.splitext(name)[1].lower() == '.txt' and not is_hidden(name)


def _list_files(folder: str) -> List[str]:
    try:
        # A link that leads nowhere is listed, so that reading it tells of it.
        return sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        raise PSENetError(f'the training data folder {folder} cannot be listed: '
                          f'{error.strerror or error}') from None


def _warn_unpaired(folder: str, images: List[str]) -> None:
    if images:
        logger.warning('%d images in %s have no label file of the same name (X.txt or gt_X.txt) '
                       'and are left out, %s first', len(images), folder,
                       os.path.basename(images[0]))


def _read_pair(image_path: str, label_path: str, read: Callable[[str], Annotation],
               max_image_pixels: int, apply_exif_orientation: bool) -> Tuple[Sample, List[str]]:
    """The sample, and where in its file the regions stand that are not valid."""
    annotation = read(label_path)
    header = read_image_header(image_path, max_image_pixels)
    size = header.size_as_read(apply_exif_orientation)
    polygons, valid = validate_polygons(annotation.polygons, size)
    sample = Sample(image_path, size, polygons, annotation.ignore_tags[valid], header.orientation,
                    apply_exif_orientation)
    return sample, [f'{label_path}:{line}' for line, is_valid in zip(annotation.lines, valid)
                    if not is_valid]
