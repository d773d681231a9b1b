"""A directory of images and labels to an index of samples, with an account of what it holds.

Several sets can be mixed by weight; which labels belong to an image is the matter of `pairing`.
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
    find_form,
    list_dataset,
    pair,
)
from utils.errors import PSENetError
from utils.geometry import validate_polygons
from utils.image_io import MAX_IMAGE_PIXELS, ImageError, read_image_header
from utils.utils_tool import logger

# Between the lines that tell how far the reading of a large directory is.
_REPORT_SECONDS = 3.0


class Sample(NamedTuple):
    """An image that is fit for training, and its valid regions."""

    image_path: str
    size: Optional[Tuple[int, int]]     # (height, width) in pixels; None before `opened`
    polygons: List[np.ndarray]      # float32 (P, 2) each, x and y in pixels, clockwise
    ignore_tags: np.ndarray         # bool (N,)
    orientation: int = 1            # EXIF orientation of the file
    apply_exif_orientation: bool = False    # whether size and polygons are those after turning
    max_pixels: int = MAX_IMAGE_PIXELS


class SynthTextSamples(Sequence):
    """The images of SynthText, none of which has been opened: made when one is asked for.

    Args:
        index: the words.
        folder: what the names of images are relative to.
        max_image_pixels: as in inspect_dataset.
        apply_exif_orientation: as in inspect_dataset.
    """

    def __init__(self, index: formats.SynthTextIndex, folder: str, max_image_pixels: int,
                 apply_exif_orientation: bool):
        self._index = index
        self._folder = folder
        self._options = (1, apply_exif_orientation, max_image_pixels)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        path = os.path.join(self._folder, *self._index.name(index).split('/'))
        words = self._index.read(index)
        return Sample(path, None, words.polygons, words.ignore_tags, *self._options)


class ChainedSamples(Sequence):
    """The samples of several sets, one set after the other."""

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


def opened(sample: Sample) -> Sample:
    """A sample with its image's size, and with the regions that are valid at that size.

    Raises:
        ImageError: the image's header cannot be read.
    """
    if sample.size is not None:
        return sample
    return _read_regions(sample.image_path, Annotation(
        sample.polygons, sample.ignore_tags, [], []), True, sample.max_pixels,
        sample.apply_exif_orientation).sample


class DatasetCounts(NamedTuple):
    """Counts of what a folder holds, and of problems met while reading; str() is one line."""

    images: int = 0
    labels: int = 0                 # label files, or images in an index
    pairs: int = 0                  # images with a label file
    usable_images: int = 0          # pairs of which both files can be read
    boxes: int = 0
    ignored_boxes: int = 0          # tagged as not to be learnt, and valid
    invalid_polygons: int = 0       # with next to no area inside of the image
    repaired_polygons: int = 0      # that crossed themselves
    crossing_polygons: int = 0      # that cross themselves beyond repair, and are ignored
    unreadable: int = 0             # pairs of which a file cannot be read
    skipped_draws: int = 0          # crops that could not be had, while batches were made
    unopened: int = 0               # images of which only the labels have been read
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

    def __add__(self, other: 'DatasetCounts') -> 'DatasetCounts':  # type: ignore[override]
        """Adds up two counts."""
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
                + (f'; {self.repaired_polygons} polygons that crossed themselves were repaired, '
                   f'{self.crossing_polygons} are ignored'
                   if self.repaired_polygons or self.crossing_polygons else '')
                + (f'; {self.unopened} images were not opened: size and regions are checked when '
                   'an image is drawn' if self.unopened else '')
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
    """Files that cannot be used, each list sorted by name."""

    unlabelled_images: List[str]    # paths of images without a label file
    unused_labels: List[str]        # paths of text files that belong to no image
    unreadable: List[str]           # a sentence for each pair of which a file cannot be read
    invalid_polygons: List[str]     # 'path:line' of each region
    turned_images: List[str]        # paths with the EXIF orientation that is ignored


class Inspection(NamedTuple):
    """The survey of a folder, made without decoding its images."""

    samples: Sequence[Sample]
    counts: DatasetCounts
    findings: Findings


class Mixture(NamedTuple):
    """What training draws from."""

    samples: Sequence[Sample]
    counts: DatasetCounts
    # (samples, weight) of each set, in the order of the samples; one set has all of the weight.
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
        PSENetError: a weight is too small to be met.
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
    """Inspects one directory, or several that are to be mixed, for training.

    Args:
        path: as for split_mixture.
        dataset: of each set, or ``auto``, for each by itself.
        max_image_pixels: as in inspect_dataset.
        apply_exif_orientation: as in inspect_dataset.
        label_folder: as in inspect_dataset; of several sets each has its own labels below it.

    Raises:
        PSENetError: as inspect_dataset, or a set of several has nothing to draw.
    """
    sets = split_mixture(path)
    if len(sets) > 1 and label_folder:
        raise PSENetError(f'--label_path={label_folder} is the labels of one set; of several, keep '
                          'images/ and labels/ below each directory of --training_data_path')
    loaded = []
    for folder, weight in sets:
        loaded.append(load_dataset(folder, dataset, max_image_pixels, apply_exif_orientation,
                                   label_folder))
        if len(sets) > 1:
            counts = loaded[-1][1]
            logger.info('%s, with %.1f %% of the samples: %s', folder, 100 * weight, counts)
            if not counts.usable_images or not counts.usable_regions:
                raise PSENetError(f'{folder} has nothing to train on ({counts}); remove it from '
                                  '--training_data_path')
    samples, counts = loaded[0]
    for _, more in loaded[1:]:
        counts = counts + more
    if len(loaded) > 1:
        samples = ChainedSamples([each for each, _ in loaded])
    return Mixture(samples, counts, tuple(
        (len(each), weight) for (each, _), (_, weight) in zip(loaded, sets)))


def load_dataset(folder: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                 apply_exif_orientation: bool = False, label_folder: str = '',
                 ) -> Tuple[Sequence[Sample], DatasetCounts]:
    """Inspects a folder for training.

    A pair that cannot be read costs one warning and is left out; so do the images without a label
    file, all together.

    Args, Raises: as inspect_dataset.

    Returns:
        The usable samples, sorted by file name, and the counts.
    """
    samples, counts, findings = inspect_dataset(folder, dataset, max_image_pixels,
                                                apply_exif_orientation, label_folder)
    _warn_unpaired(folder, findings.unlabelled_images)
    for sentence in findings.unreadable:
        logger.warning('%s; the sample is left out', sentence)
    return samples, counts


def inspect_dataset(folder: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                    apply_exif_orientation: bool = False, label_folder: str = '',
                    labels_only: bool = False) -> Inspection:
    """Pairs images with their labels, reads the labels and the images' sizes, and counts.

    Images of formats that cannot be read are named in a warning. SynthText's images are not opened.

    Args:
        folder: holds images and labels, as `pairing.list_dataset` finds them.
        dataset: a name in DATASETS, or ``auto`` to find the form by what the labels look like.
        max_image_pixels: a larger image counts as one that cannot be read.
        apply_exif_orientation: take the images as their EXIF orientation turns them.
        label_folder: holds the labels where they do not lie with the images.
        labels_only: look at labels without any image; each is as large as its regions need.

    Returns:
        The usable samples, sorted by file name, the counts, and what is wrong with the rest.

    Raises:
        PSENetError: the dataset is unknown, fits several forms, or a folder cannot be listed.
    """
    listing, dataset = open_listing(folder, dataset, label_folder, labels_only)
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
            logger.info('reading %s: %d of %d images', folder, number, len(paired.pairs))
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


def open_listing(folder: str, dataset: str, label_folder: str = '', labels_only: bool = False,
                 ) -> Tuple[Listing, str]:
    """Lists a directory and finds, where it is not given, the form of its labels.

    Args, Raises: as inspect_dataset.

    Returns:
        The listing, and a name in DATASETS.
    """
    if dataset != AUTO and dataset not in DATASETS:
        raise PSENetError(f'there is no dataset "{dataset}"; choose one of '
                          f'{", ".join([AUTO, *DATASETS])}')
    listing = list_dataset(folder, label_folder, labels_only)
    if dataset == AUTO:
        dataset, evidence = find_form(listing)
        if evidence:
            logger.info('the labels in %s have the form of --dataset=%s: %s', listing.label_folder,
                        dataset, evidence)
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


def _warn_unpaired(folder: str, images: List[str]) -> None:
    if images:
        logger.warning('%d images in %s have no label (docs/data.md has the names, X.txt or '
                       'gt_X.txt for X.jpg) and are left out, %s first', len(images), folder,
                       os.path.basename(images[0]))


class _ReadRegions(NamedTuple):
    sample: Sample
    invalid: List[int]      # where in the label file the regions stand that are not valid
    repaired: int
    crossing: int


def _read_regions(image_path: str, annotation: Annotation, of_any_shape: bool,
                  max_image_pixels: int, apply_exif_orientation: bool, labels_only: bool = False,
                  ) -> _ReadRegions:
    """Validates regions against the size of their image, read from its header."""
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
            given[place] = np.zeros((3, 2), np.float32)     # no region, and counted as such
            continue
        given[place], usable = formats.repaired(polygon)
        repaired += usable and given[place] is not polygon
        crossing += not usable and not ignore_tags[place]
        ignore_tags[place] |= not usable
    polygons, valid = validate_polygons(given, size)
    lines = annotation.lines or range(len(given))
    return _ReadRegions(
        Sample(image_path, size, polygons, ignore_tags[valid], orientation, apply_exif_orientation,
               max_image_pixels),
        [line for line, is_valid in zip(lines, valid) if not is_valid], repaired, crossing)
