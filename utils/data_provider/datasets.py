"""Reads a directory of images and labels into samples, and counts what it contains.

Several sets can be mixed by weight. `pairing` finds the label of each image.
"""

import bisect
import collections
import itertools
import os
import re
import time
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from utils.data_provider import formats
from utils.data_provider.annotation import Annotation, AnnotationError
from utils.data_provider.pairing import (
    AUTO,
    DATASETS,
    SYNTHTEXT,
    Listing,
    detect_format,
    list_dataset,
    pair,
)
from utils.errors import PSENetError
from utils.geometry import validate_polygons
from utils.image_io import MAX_IMAGE_PIXELS, ImageError, read_image_header
from utils.utils_tool import logger

# Between the log lines about the progress of reading.
_REPORT_SECONDS = 3.0


class Sample(NamedTuple):
    """A usable image and its valid regions."""

    image_path: str
    size: Optional[Tuple[int, int]]     # (height, width) in pixels; None before open_sample
    polygons: List[np.ndarray]      # float32 (P, 2) each, x and y in pixels, clockwise
    ignore_tags: np.ndarray         # bool (N,)
    orientation: int = 1            # EXIF orientation of the file
    apply_exif_orientation: bool = False    # size and polygons are those after rotation
    max_pixels: int = MAX_IMAGE_PIXELS


class SynthTextSamples(Sequence):
    """The samples of SynthText, created on access without opening the images.

    Args:
        index: the words.
        directory: the names of images are relative to it.
        max_image_pixels: as in inspect_dataset.
        apply_exif_orientation: as in inspect_dataset.
    """

    def __init__(self, index: formats.SynthTextIndex, directory: str, max_image_pixels: int,
                 apply_exif_orientation: bool):
        self._index = index
        self._folder = directory
        self._options = (1, apply_exif_orientation, max_image_pixels)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        path = os.path.join(self._folder, *self._index.name(index).split('/'))
        words = self._index.read(index)
        return Sample(path, None, words.polygons, words.ignore_tags, *self._options)


class ChainedSamples(Sequence):
    """The concatenated samples of several sets."""

    def __init__(self, sets: Sequence[Sequence[Sample]]):
        self._sets = sets
        self._ends = list(itertools.accumulate(map(len, sets)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        if index >= len(self):
            raise IndexError(index)
        place = bisect.bisect_right(self._ends, index)
        return self._sets[place][index - (self._ends[place - 1] if place else 0)]


def open_sample(sample: Sample) -> Sample:
    """Reads the size of a sample's image, if not known, and validates the regions against it.

    Raises:
        ImageError: the image's header cannot be read.
    """
    if sample.size is not None:
        return sample
    return _read_regions(sample.image_path, Annotation(
        sample.polygons, sample.ignore_tags, [], []), True, sample.max_pixels,
        sample.apply_exif_orientation).sample


class DatasetCounts(NamedTuple):
    """Counts of the contents of a directory and of problems with them; str() is one line."""

    images: int = 0
    labels: int = 0                 # label files, or images in an index
    pairs: int = 0                  # images with a label file
    usable_images: int = 0          # pairs whose files can both be read
    boxes: int = 0
    ignored_boxes: int = 0          # valid, and tagged to be ignored
    invalid_polygons: int = 0       # with almost no area inside the image
    repaired_polygons: int = 0      # that intersected themselves
    crossing_polygons: int = 0      # that intersect themselves beyond repair, and are ignored
    unreadable: int = 0             # pairs of which a file cannot be read
    skipped_draws: int = 0          # draws without a crop of the wanted kind
    unopened: int = 0               # images of which only the labels have been read
    orientations: Tuple[Tuple[int, int], ...] = ()  # (EXIF orientation, images), without 1
    apply_exif_orientation: bool = False

    @property
    def usable_regions(self) -> int:
        """Regions to learn."""
        return self.boxes - self.ignored_boxes - self.invalid_polygons

    def without(self, sample: Sample) -> 'DatasetCounts':
        """Returns the counts after a sample turned out to be unusable."""
        return self._replace(
            usable_images=self.usable_images - 1, unreadable=self.unreadable + 1,
            boxes=self.boxes - len(sample.polygons),
            ignored_boxes=self.ignored_boxes - int(sample.ignore_tags.sum()))

    def __add__(self, other: 'DatasetCounts') -> 'DatasetCounts':  # type: ignore[override]
        """Adds counts."""
        orientations = collections.Counter(dict(self.orientations))
        orientations.update(dict(other.orientations))
        return DatasetCounts(*(
            one + two for one, two in zip(self[:-2], other[:-2])),
            tuple(sorted(orientations.items())), self.apply_exif_orientation)

    def __str__(self) -> str:
        return (f'{self.images} images, {self.labels} labels, {self.pairs} pairs, '
                f'{self.unreadable} unreadable, {self.usable_images} usable images; '
                f'{self.boxes} boxes, {self.ignored_boxes} ignored, '
                f'{self.invalid_polygons} invalid, {self.usable_regions} usable regions'
                + (f'; {self.repaired_polygons} self-intersecting polygons were repaired, '
                   f'{self.crossing_polygons} are ignored'
                   if self.repaired_polygons or self.crossing_polygons else '')
                + (f'; {self.unopened} images were not opened: size and regions are checked when '
                   'an image is used' if self.unopened else '')
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
    """Problems of a data set, each list sorted by name."""

    unlabelled_images: List[str]    # paths of images without a label file
    unused_labels: List[str]        # paths of label files without an image
    unreadable: List[str]           # an error message for each pair that cannot be read
    invalid_polygons: List[str]     # 'path:line' of each region
    turned_images: List[str]        # paths of images with an EXIF orientation that is ignored


class Inspection(NamedTuple):
    """The contents of a directory, found without decoding images."""

    samples: Sequence[Sample]
    counts: DatasetCounts
    findings: Findings


class Mixture(NamedTuple):
    """The samples of one or several sets."""

    samples: Sequence[Sample]
    counts: DatasetCounts
    # (samples, weight) of each set, in the order of the samples; the weights sum to one.
    shares: Tuple[Tuple[int, float], ...]


_WEIGHTED_SET = re.compile(r'([^,]+):(\d+(?:\.\d*)?|\.\d+)')
_LEAST_SHARE = 0.001


def split_mixture(path: str) -> List[Tuple[str, float]]:
    """Splits ``A:0.5,B:0.5`` into directories and weights.

    Args:
        path: such a mixture, or one directory.

    Returns:
        Directories and their weights, which sum to one.

    Raises:
        PSENetError: a weight is too small.
    """
    parts = [_WEIGHTED_SET.fullmatch(part.strip()) for part in path.split(',')]
    if os.path.isdir(path) or not all(parts):
        return [(path, 1.0)]
    weights = [float(part.group(2)) for part in parts]
    if min(weights) <= 0 or min(weights) / sum(weights) < _LEAST_SHARE:
        raise PSENetError(f'--training_data_path={path}: each weight must be at least '
                          f'{_LEAST_SHARE:g} of their sum')
    return [(part.group(1), weight / sum(weights)) for part, weight in zip(parts, weights)]


def load_mixture(path: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                 apply_exif_orientation: bool = False, label_folder: str = '') -> Mixture:
    """Reads one directory, or several to be mixed, for training.

    Args:
        path: as for split_mixture.
        dataset: format of all sets, or ``auto`` to detect that of each.
        max_image_pixels: as in inspect_dataset.
        apply_exif_orientation: as in inspect_dataset.
        label_folder: as in inspect_dataset; not with several sets.

    Raises:
        PSENetError: as inspect_dataset, or one of several sets has nothing to train on.
    """
    sets = split_mixture(path)
    if len(sets) > 1 and label_folder:
        raise PSENetError(f'--label_path={label_folder} works with one set only; with several, '
                          'keep images/ and labels/ in each directory of --training_data_path')
    loaded = []
    for directory, weight in sets:
        loaded.append(load_dataset(directory, dataset, max_image_pixels, apply_exif_orientation,
                                   label_folder))
        if len(sets) > 1:
            counts = loaded[-1][1]
            logger.info('%s, with %.1f %% of the samples: %s', directory, 100 * weight, counts)
            if not counts.usable_images or not counts.usable_regions:
                raise PSENetError(f'{directory} has nothing to train on ({counts}); remove it from '
                                  '--training_data_path')
    samples, counts = loaded[0]
    for _, more in loaded[1:]:
        counts = counts + more
    if len(loaded) > 1:
        samples = ChainedSamples([each for each, _ in loaded])
    return Mixture(samples, counts, tuple(
        (len(each), weight) for (each, _), (_, weight) in zip(loaded, sets)))


def load_dataset(directory: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                 apply_exif_orientation: bool = False, label_folder: str = '',
                 ) -> Tuple[Sequence[Sample], DatasetCounts]:
    """Reads a directory for training.

    Each pair that cannot be read is skipped with a warning; so are the unlabelled images, with one
    warning for all.

    Args, Raises: as inspect_dataset.

    Returns:
        The usable samples, sorted by file name, and the counts.
    """
    samples, counts, findings = inspect_dataset(directory, dataset, max_image_pixels,
                                                apply_exif_orientation, label_folder)
    _warn_unpaired(directory, findings.unlabelled_images)
    for sentence in findings.unreadable:
        logger.warning('%s; sample skipped', sentence)
    return samples, counts


def inspect_dataset(directory: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                    apply_exif_orientation: bool = False, label_folder: str = '',
                    labels_only: bool = False) -> Inspection:
    """Pairs images with their labels, reads the labels and the sizes of the images, and counts.

    Unsupported image formats are named in a warning. SynthText's images are not opened.

    Args:
        directory: contains images and labels as described in `pairing.list_dataset`.
        dataset: a name in DATASETS, or ``auto`` to detect the format.
        max_image_pixels: larger images count as unreadable.
        apply_exif_orientation: use the sizes of the images after EXIF rotation.
        label_folder: contains the labels if they are elsewhere.
        labels_only: read labels without images; sizes are derived from the regions.

    Returns:
        The usable samples, sorted by file name, the counts, and the problems found.

    Raises:
        PSENetError: the format is unknown or ambiguous, or a directory cannot be listed.
    """
    listing, dataset = open_listing(directory, dataset, label_folder, labels_only)
    if dataset == SYNTHTEXT:
        return _inspect_synthtext(listing, max_image_pixels, apply_exif_orientation)
    paired = pair(listing, DATASETS[dataset])
    findings = Findings(paired.unlabelled_images, paired.unused_labels, [], [], [])
    if labels_only:
        findings = findings._replace(unlabelled_images=[], unused_labels=[])

    samples, regions = [], DatasetCounts()
    next_report = time.monotonic() + _REPORT_SECONDS
    for number, each in enumerate(paired.pairs):
        if time.monotonic() > next_report:
            logger.info('reading %s: %d of %d images', directory, number, len(paired.pairs))
            next_report = time.monotonic() + _REPORT_SECONDS
        try:
            read = _read_regions(each.image_path, each.read(), DATASETS[dataset].polygons,
                                 max_image_pixels, apply_exif_orientation, labels_only)
        except (AnnotationError, ImageError) as error:
            findings.unreadable.append(str(error))
            continue
        sample = read.sample
        samples.append(sample)
        findings.invalid_polygons.extend(f'{each.label_path}:{line}' for line in read.invalid)
        regions = regions._replace(
            boxes=regions.boxes + len(sample.polygons) + len(read.invalid),
            ignored_boxes=regions.ignored_boxes + int(sample.ignore_tags.sum()),
            repaired_polygons=regions.repaired_polygons + read.repaired,
            crossing_polygons=regions.crossing_polygons + read.crossing)
    turned = [sample for sample in samples if sample.orientation != 1]
    if not apply_exif_orientation:
        findings.turned_images.extend(
            f'{sample.image_path}: orientation {sample.orientation}' for sample in turned)
    orientations = collections.Counter(sample.orientation for sample in turned)
    return Inspection(samples, regions._replace(
        orientations=tuple(sorted(orientations.items())),
        apply_exif_orientation=apply_exif_orientation,
        images=0 if labels_only else paired.num_images,
        labels=len(paired.pairs) if labels_only else paired.num_labels, pairs=len(paired.pairs),
        usable_images=len(samples), invalid_polygons=len(findings.invalid_polygons),
        unreadable=len(findings.unreadable)), findings)


def open_listing(directory: str, dataset: str, label_folder: str = '', labels_only: bool = False,
                 ) -> Tuple[Listing, str]:
    """Lists a directory, and detects the format of its labels if it is not given.

    Args, Raises: as inspect_dataset.

    Returns:
        The listing, and a name in DATASETS.
    """
    if dataset != AUTO and dataset not in DATASETS:
        raise PSENetError(f'--dataset={dataset} is unknown; choose one of '
                          f'{", ".join([AUTO, *DATASETS])}')
    listing = list_dataset(directory, label_folder, labels_only)
    if dataset == AUTO:
        dataset, evidence = detect_format(listing)
        if evidence:
            logger.info('the labels in %s have the format of --dataset=%s: %s',
                        listing.label_folder, dataset, evidence)
    return listing, dataset


def _inspect_synthtext(listing: Listing, max_image_pixels: int, apply_exif_orientation: bool,
                       ) -> Inspection:
    names = [name for name in listing.label_files if name == DATASETS[SYNTHTEXT].index]
    samples: Sequence[Sample] = []
    counts = DatasetCounts(images=len(listing.images))
    if names:
        index = formats.SynthTextIndex(os.path.join(listing.label_folder, names[0]))
        samples = SynthTextSamples(index, listing.image_folder, max_image_pixels,
                                   apply_exif_orientation)
        size = len(samples)
        counts = DatasetCounts(
            images=size, labels=size, pairs=size, usable_images=size, boxes=index.num_words,
            unopened=size, apply_exif_orientation=apply_exif_orientation)
    return Inspection(samples, counts, Findings([], [], [], [], []))


def _warn_unpaired(directory: str, images: List[str]) -> None:
    if images:
        logger.warning('%d images in %s, the first of them %s, have no label file (X.txt or '
                       'gt_X.txt for X.jpg, see docs/data.md) and are skipped', len(images),
                       directory, os.path.basename(images[0]))


class _ReadRegions(NamedTuple):
    sample: Sample
    invalid: List[int]      # line numbers of invalid regions
    repaired: int
    crossing: int


def _read_regions(image_path: str, annotation: Annotation, of_any_shape: bool,
                  max_image_pixels: int, apply_exif_orientation: bool, labels_only: bool = False,
                  ) -> _ReadRegions:
    """Validates regions against the size of their image, which is read from its header."""
    given, ignore_tags = list(annotation.polygons), annotation.ignore_tags.copy()
    if labels_only:
        orientation = 1
        corner = np.max([polygon.max(axis=0) for polygon in given] or [(0, 0)], axis=0)
        size = tuple(int(side) + 2 for side in np.maximum(corner, 0)[::-1])
    else:
        header = read_image_header(image_path, max_image_pixels)
        orientation, size = header.orientation, header.size_as_read(apply_exif_orientation)
    repaired = crossing = 0
    for place, polygon in enumerate(given if of_any_shape else ()):
        if len(polygon) < 3:
            given[place] = np.zeros((3, 2), np.float32)     # will count as invalid
            continue
        given[place], usable = formats.repair_polygon(polygon)
        repaired += usable and given[place] is not polygon
        crossing += not usable and not ignore_tags[place]
        ignore_tags[place] |= not usable
    polygons, valid = validate_polygons(given, size)
    lines = annotation.lines or range(len(given))
    return _ReadRegions(
        Sample(image_path, size, polygons, ignore_tags[valid], orientation, apply_exif_orientation,
               max_image_pixels),
        [line for line, is_valid in zip(lines, valid) if not is_valid], repaired, crossing)
