"""A directory of images and labels to an index of samples, with an account of what it holds.

A dataset is a name in DATASETS: how its label files are called and how they are read. To add one,
write a parser in `formats`, an entry here, and what it is found by in `find_form`.
"""

import collections
import fnmatch
import functools
import itertools
import os
import re
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from utils.data_provider import formats
from utils.data_provider.annotation import (
    MLT_SCRIPTS,
    Annotation,
    AnnotationError,
    parse_number,
    read_icdar,
    read_icdar2013,
    read_icdar2015,
    read_text,
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

    read: Callable[[str], Any]      # label file -> Annotation; of an index, {image: Annotation}
    # Names of the label file of an image, by its {stem} and its {name}; the first wins. Where one
    # file is for all images, an index, the pattern of its name.
    label_names: Tuple[str, ...] = ()
    index: str = ''
    polygons: bool = True           # of any shape: those that cross themselves are repaired


# Between the lines that tell how far the reading of a large directory is.
_REPORT_SECONDS = 3.0
_TEXT_NAMES = ('{stem}.txt', 'gt_{stem}.txt')
DATASETS: Dict[str, DatasetFormat] = {
    'icdar': DatasetFormat(read_icdar, _TEXT_NAMES, polygons=False),
    'icdar2013': DatasetFormat(read_icdar2013, _TEXT_NAMES, polygons=False),
    'icdar2015': DatasetFormat(read_icdar2015, _TEXT_NAMES, polygons=False),
    'mlt': DatasetFormat(formats.read_mlt, _TEXT_NAMES),
    'total_text': DatasetFormat(formats.read_total_text, (
        'poly_gt_{stem}.mat', 'gt_{stem}.mat', 'poly_gt_{stem}.txt', '{name}.txt', *_TEXT_NAMES)),
    'ctw1500': DatasetFormat(formats.read_ctw1500, ('{stem}.txt', '{stem}.xml', '000{stem}.txt')),
    'msra_td500': DatasetFormat(formats.read_msra_td500, ('{stem}.gt',)),
    'labelme': DatasetFormat(formats.read_labelme, ('{stem}.json',)),
    'coco': DatasetFormat(formats.read_coco, index='*.json'),
    'art': DatasetFormat(formats.read_art, index='*.json'),
    'ppocrlabel': DatasetFormat(formats.read_ppocrlabel, index='Label.txt'),
}
AUTO = 'auto'
# Label files that are looked at to find the form, and lines of each.
_FILES_LOOKED_AT = 20
_LINES_LOOKED_AT = 50
# Directories of images and labels below one that is named.
_IMAGE_FOLDERS = ('images', 'imgs')
_LABEL_FOLDERS = ('labels', 'gt', 'annotations')


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
                + (f'; {self.repaired_polygons} polygons that crossed themselves were repaired, '
                   f'{self.crossing_polygons} are ignored'
                   if self.repaired_polygons or self.crossing_polygons else '')
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


def load_dataset(folder: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                 apply_exif_orientation: bool = False, label_folder: str = '',
                 ) -> Tuple[List[Sample], DatasetCounts]:
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


class _Pair(NamedTuple):
    """An image and where its regions come from."""

    image_path: str
    label_path: str
    read: Callable[[], Annotation]


class Listing(NamedTuple):
    """The files of a data set, before any label is read; names without their folders."""

    image_folder: str
    label_folder: str
    images: List[str]
    label_files: List[str]      # all that are not hidden


def inspect_dataset(folder: str, dataset: str = AUTO, max_image_pixels: int = MAX_IMAGE_PIXELS,
                    apply_exif_orientation: bool = False, label_folder: str = '') -> Inspection:
    """Pairs images with their labels, reads the labels and the images' sizes, and counts.

    Images of formats that cannot be read are named in a warning.

    Args:
        folder: holds images and labels side by side, or in ``images`` and ``labels``, ``gt`` or
            ``annotations``; other sub-folders are not entered.
        dataset: a name in DATASETS, or ``auto`` to find the form by what the labels look like.
        max_image_pixels: a larger image counts as one that cannot be read.
        apply_exif_orientation: take the images as their EXIF orientation turns them.
        label_folder: holds the labels where they do not lie with the images.

    Returns:
        The usable samples, sorted by file name, the counts, and what is wrong with the rest.

    Raises:
        PSENetError: the dataset is unknown, fits several forms, or a folder cannot be listed.
    """
    if dataset != AUTO and dataset not in DATASETS:
        raise PSENetError(f'there is no dataset "{dataset}"; choose one of '
                          f'{", ".join([AUTO, *DATASETS])}')
    listing = _list_dataset(folder, label_folder)
    if dataset == AUTO:
        dataset, evidence = find_form(listing)
        if evidence:
            logger.info('the labels in %s have the form of --dataset=%s: %s', listing.label_folder,
                        dataset, evidence)
    pairs, findings, num_images, num_labels = _pair(listing, DATASETS[dataset])

    samples, regions = [], DatasetCounts()
    next_report = time.monotonic() + _REPORT_SECONDS
    for number, pair in enumerate(pairs):
        if time.monotonic() > next_report:
            logger.info('reading %s: %d of %d images', folder, number, len(pairs))
            next_report = time.monotonic() + _REPORT_SECONDS
        try:
            read = _read_pair(pair, DATASETS[dataset].polygons, max_image_pixels,
                              apply_exif_orientation)
        except (AnnotationError, ImageError) as error:
            findings.unreadable.append(str(error))
            continue
        sample = read.sample
        samples.append(sample)
        findings.invalid_polygons.extend(read.invalid)
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
        images=num_images, labels=num_labels, pairs=len(pairs), usable_images=len(samples),
        invalid_polygons=len(findings.invalid_polygons), unreadable=len(findings.unreadable),
    ), findings)


def _list_dataset(folder: str, label_folder: str) -> Listing:
    image_folder, names = folder, _list_files(folder)
    images = [name for name in names if is_image_name(name)]
    below = next((path for path in (os.path.join(folder, name) for name in _IMAGE_FOLDERS)
                  if os.path.isdir(path)), None)
    if not images and below:
        image_folder, names = below, _list_files(below)
        images = [name for name in names if is_image_name(name)]
        label_folder = label_folder or next(
            (path for path in (os.path.join(folder, name) for name in _LABEL_FOLDERS)
             if os.path.isdir(path)), folder)
    warn_of_other_formats(image_folder, names)
    if label_folder:
        names = _list_files(label_folder)
    return Listing(image_folder, label_folder or image_folder, images,
                   [name for name in names if not is_hidden(name)])


def _pair(listing: Listing, form: DatasetFormat) -> Tuple[List[_Pair], Findings, int, int]:
    """The pairs, what belongs to none, and how many images and labels there are."""
    if form.index:
        return _pair_by_index(listing, form)
    found = pair_files(listing.images, listing.label_files, form.label_names)
    pairs = []
    for image, label in found.items():
        path = os.path.join(listing.label_folder, label)
        pairs.append(_Pair(os.path.join(listing.image_folder, image), path,
                           functools.partial(form.read, path)))
    extensions = {os.path.splitext(name)[1] for name in form.label_names}
    labels = [name for name in listing.label_files
              if os.path.splitext(name)[1].lower() in extensions]
    used = set(found.values())
    return pairs, Findings(
        [os.path.join(listing.image_folder, name) for name in listing.images if name not in found],
        [os.path.join(listing.label_folder, name) for name in labels if name not in used],
        [], [], []), len(listing.images), len(labels)


def _pair_by_index(listing: Listing, form: DatasetFormat,
                   ) -> Tuple[List[_Pair], Findings, int, int]:
    stems = {os.path.splitext(name)[0]: name for name in listing.images}
    pairs: Dict[str, _Pair] = {}
    without_image, entries = [], 0
    # A file of an image's own name is of another form.
    indices = [name for name in fnmatch.filter(listing.label_files, form.index)
               if os.path.splitext(name)[0] not in stems]
    for name in indices:
        path = os.path.join(listing.label_folder, name)
        for key, annotation in form.read(path).items():
            entries += 1
            image = formats.image_of(key, path, listing.image_folder, stems)
            if image:
                pairs[os.path.realpath(image)] = _Pair(
                    image, path, functools.partial(lambda regions: regions, annotation))
            else:
                without_image.append(f'{path}: {key}')
    images = [os.path.join(listing.image_folder, name) for name in listing.images]
    unlabelled = [path for path in images if os.path.realpath(path) not in pairs]
    ordered = sorted(pairs.values(), key=lambda pair: pair.image_path)
    return ordered, Findings(unlabelled, without_image, [], [], []), (
        len(ordered) + len(unlabelled)), entries


def find_form(listing: Listing) -> Tuple[str, str]:
    """Finds the form of a directory's labels by what they look like.

    Args:
        listing: of the directory.

    Returns:
        A name in DATASETS, and the evidence in words; ``icdar`` without evidence where nothing
        speaks of another.

    Raises:
        PSENetError: the files fit several forms.
    """
    found: Dict[str, str] = {}
    for form, note in _evidence(listing):
        found.setdefault(form, note)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise PSENetError(f'the labels in {listing.label_folder} fit two data sets, {one} ({first})'
                          f' and {other} ({second}); name one with --dataset')
    return next(iter(found.items()), ('icdar', ''))


def _evidence(listing: Listing) -> Iterator[Tuple[str, str]]:
    for name in fnmatch.filter(listing.label_files, DATASETS['ppocrlabel'].index):
        yield 'ppocrlabel', f'{name} is there'
    for form, extension in (('msra_td500', '.gt'), ('total_text', '.mat')):
        label = _first_label(listing, form, extension)
        if label:
            yield form, f'{label} is there'
    label = _first_label(listing, 'ctw1500', '.xml')
    if label and '<segs>' in _beginning(listing, label):
        yield 'ctw1500', f'{label} has <segs>'
    yield from _json_evidence(listing)
    yield from _text_evidence(listing)


def _first_label(listing: Listing, form: str, extension: str) -> str:
    names = tuple(name for name in DATASETS[form].label_names if name.endswith(extension))
    return next(iter(pair_files(listing.images, listing.label_files, names).values()), '')


def _beginning(listing: Listing, name: str) -> str:
    with open(os.path.join(listing.label_folder, name), encoding='utf-8', errors='replace') as file:
        return file.read(2 ** 16)


def _json_evidence(listing: Listing) -> Iterator[Tuple[str, str]]:
    paired = pair_files(listing.images, listing.label_files, ('{stem}.json',)).values()
    for name in paired:
        if '"shapes"' in _beginning(listing, name):
            yield 'labelme', f'{name} has shapes'
            break
    for name in sorted(set(fnmatch.filter(listing.label_files, '*.json')) - set(paired)):
        content = formats.read_json(os.path.join(listing.label_folder, name))
        keys = set(content) if isinstance(content, dict) else set()
        if {'imgs', 'anns'} <= keys or {'images', 'annotations'} <= keys:
            yield 'coco', f'{name} has images and annotations'
        elif keys and all(isinstance(entries, list) and all('points' in entry for entry in entries)
                          for entries in content.values()):
            yield 'art', f'{name} has points by image'


def _text_evidence(listing: Listing) -> Iterator[Tuple[str, str]]:
    names = tuple(name for name in (*DATASETS['total_text'].label_names,
                                    *DATASETS['ctw1500'].label_names) if name.endswith('.txt'))
    labels = list(pair_files(listing.images, listing.label_files, names).values())
    votes: collections.Counter = collections.Counter()
    for name in labels[:_FILES_LOOKED_AT]:
        try:
            lines = read_text(os.path.join(listing.label_folder, name)).splitlines()
        except AnnotationError:     # reading it for training will say so
            continue
        votes.update(_form_of_line(line.strip()) for line in lines[:_LINES_LOOKED_AT]
                     if line.strip())
    total = sum(votes.values())
    for form in ('ctw1500', 'mlt', 'total_text'):
        # Quadrilaterals are polygons too: of Total-Text's lines half have four points.
        if total and votes[form] >= (0.2 if form == 'total_text' else 0.9) * total:
            yield form, f'{votes[form]} of {total} lines look so, in {labels[0]} and others'


def _form_of_line(line: str) -> str:
    if re.match(r'x:\s*\[\[', line):
        return 'total_text'
    fields = line.split(',')
    numbers = len(list(itertools.takewhile(_is_number, fields)))
    if numbers == len(fields) == 32 or (numbers == 28 and ',####' in line):
        return 'ctw1500'
    if len(fields) > 9 and numbers == 8 and fields[8].strip() in MLT_SCRIPTS:
        return 'mlt'
    # The last field is the text, whatever it looks like.
    points = min(numbers, len(fields) - 1) // 2
    return 'total_text' if points == 3 or points > 4 else ''


def _is_number(field: str) -> bool:
    try:
        parse_number(field)
    except ValueError:
        return False
    return True


def pair_files(images: Sequence[str], labels: Sequence[str], label_names: Tuple[str, ...],
               ) -> Dict[str, str]:
    """Finds the label file of each image by name, the extension in any case.

    Args:
        images: names of images.
        labels: names of files among which their labels are.
        label_names: as in DatasetFormat.

    Returns:
        Name of the label file by name of the image, in the order given; images without one are
        left out.
    """
    def lowered(name: str) -> str:
        stem, extension = os.path.splitext(name)
        return stem + extension.lower()
    known = {lowered(name): name for name in labels}
    pairs = {}
    for image in images:
        stem = os.path.splitext(image)[0]
        candidates = (pattern.format(stem=stem, name=image) for pattern in label_names)
        label = next((known[name] for name in candidates if name in known), None)
        if label is not None:
            pairs[image] = label
    return pairs


def _list_files(folder: str) -> List[str]:
    try:
        # A link that leads nowhere is listed, so that reading it tells of it.
        return sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        raise PSENetError(f'the training data folder {folder} cannot be listed: '
                          f'{error.strerror or error}') from None


def _warn_unpaired(folder: str, images: List[str]) -> None:
    if images:
        logger.warning('%d images in %s have no label (docs/data.md has the names, X.txt or '
                       'gt_X.txt for X.jpg) and are left out, %s first', len(images), folder,
                       os.path.basename(images[0]))


class _ReadPair(NamedTuple):
    sample: Sample
    invalid: List[str]      # where in the label file the regions stand that are not valid
    repaired: int
    crossing: int


def _read_pair(pair: _Pair, of_any_shape: bool, max_image_pixels: int,
               apply_exif_orientation: bool) -> _ReadPair:
    annotation = pair.read()
    header = read_image_header(pair.image_path, max_image_pixels)
    size = header.size_as_read(apply_exif_orientation)
    given, ignore_tags = list(annotation.polygons), annotation.ignore_tags.copy()
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
    sample = Sample(pair.image_path, size, polygons, ignore_tags[valid], header.orientation,
                    apply_exif_orientation)
    return _ReadPair(sample, [f'{pair.label_path}:{line}' for line, is_valid in
                              zip(annotation.lines, valid) if not is_valid], repaired, crossing)
