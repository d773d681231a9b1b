"""Pairs the images of a directory with their labels, and detects the format of the labels.

DATASETS has the names of the label files and the parser of each data set. To add one, write a
parser in `formats`, an entry here, and a rule in `_evidence`.
"""

import collections
import fnmatch
import functools
import itertools
import os
import posixpath
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

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
from utils.image_io import is_hidden, is_image_name, warn_of_other_formats


class DatasetFormat(NamedTuple):
    """The label files of a data set, and their parser."""

    read: Callable[[str], Any]      # label file -> Annotation; for an index, {image: Annotation}
    # Names of an image's label file, with its {stem} and {name}; the first that exists is used.
    label_names: Tuple[str, ...] = ()
    # Pattern of the name of an index, a single file for all images.
    index: str = ''
    polygons: bool = True           # of any shape; self-intersecting ones are repaired


SYNTHTEXT = 'synthtext'
_SYNTHTEXT_INDEX = 'gt.mat'
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
    SYNTHTEXT: DatasetFormat(formats.SynthTextIndex, index=_SYNTHTEXT_INDEX),
}
AUTO = 'auto'
# Label files, and lines of each, that are read to detect the format.
_FILES_READ = 20
_LINES_READ = 50
# Subdirectories of images and labels.
_IMAGE_FOLDERS = ('images', 'imgs')
_LABEL_FOLDERS = ('labels', 'gt', 'annotations')


class Pair(NamedTuple):
    """An image and the source of its regions."""

    image_path: str
    label_path: str
    read: Callable[[], Annotation]


class Pairing(NamedTuple):
    """The pairs of a data set, and the unpaired files."""

    pairs: List[Pair]
    unlabelled_images: List[str]    # paths
    unused_labels: List[str]        # paths, or 'path: entry' for an index
    num_images: int
    num_labels: int                 # files, or entries of an index


class Listing(NamedTuple):
    """The files of a data set; names are relative to their directories."""

    image_folder: str
    label_folder: str
    images: List[str]
    label_files: List[str]      # all files that are not hidden
    labels_only: bool = False   # images are derived from the labels and need not exist


def list_dataset(directory: str, label_folder: str = '', labels_only: bool = False) -> Listing:
    """Lists the images and the label files of a data set.

    Args:
        directory: contains images and labels, or subdirectories ``images`` and ``labels``, ``gt``
            or ``annotations``. Other subdirectories are searched only if it contains no image.
        label_folder: contains the labels if they are elsewhere.
        labels_only: ignore images; list the names of images that the labels imply.

    Raises:
        PSENetError: a directory cannot be listed.
    """
    def below(names: Sequence[str]) -> str:
        paths = (os.path.join(directory, name) for name in names)
        return next((path for path in paths if os.path.isdir(path)), '')

    image_folder, names = directory, _list_files(directory)
    if labels_only:
        label_folder = label_folder or below(_LABEL_FOLDERS) or directory
        labels = _visible(_list_files(label_folder)) or _visible(_list_nested(label_folder))
        return Listing(directory, label_folder, sorted(set(map(_image_of_label, labels))), labels,
                       True)
    if not any(map(is_image_name, names)) and below(_IMAGE_FOLDERS):
        image_folder = below(_IMAGE_FOLDERS)
        names = _list_files(image_folder)
        label_folder = label_folder or below(_LABEL_FOLDERS) or directory
    # SynthText's 858,750 images are not listed: the index names them.
    nested = not any(map(is_image_name, names)) and _SYNTHTEXT_INDEX not in names
    if nested:
        names = _list_nested(image_folder)
    warn_of_other_formats(image_folder, names)
    images = [name for name in _visible(names) if is_image_name(posixpath.basename(name))]
    if label_folder:
        names = (_list_nested if nested else _list_files)(label_folder)
    return Listing(image_folder, label_folder or image_folder, images, _visible(names))


def _visible(names: Sequence[str]) -> List[str]:
    return [name for name in names if not is_hidden(posixpath.basename(name))]


def _image_of_label(name: str) -> str:
    """Returns the name of the image that a label file implies."""
    directory, base = posixpath.split(name)
    stem = re.sub('^(poly_gt_|gt_)', '', posixpath.splitext(base)[0])
    return posixpath.join(directory, stem if is_image_name(stem) else f'{stem}.jpg')


def pair(listing: Listing, label_format: DatasetFormat) -> Pairing:
    """Finds the labels of every image.

    Raises:
        AnnotationError: an index cannot be read.
    """
    if label_format.index:
        return _pair_by_index(listing, label_format)
    found = pair_files(listing.images, listing.label_files, label_format.label_names)
    pairs = []
    for image, label in found.items():
        path = os.path.join(listing.label_folder, label)
        pairs.append(Pair(os.path.join(listing.image_folder, image), path,
                          functools.partial(label_format.read, path)))
    extensions = {os.path.splitext(name)[1] for name in label_format.label_names}
    labels = [name for name in listing.label_files
              if os.path.splitext(name)[1].lower() in extensions]
    used = set(found.values())
    return Pairing(
        pairs,
        [os.path.join(listing.image_folder, name) for name in listing.images if name not in found],
        [os.path.join(listing.label_folder, name) for name in labels if name not in used],
        len(listing.images), len(labels))


def _pair_by_index(listing: Listing, label_format: DatasetFormat) -> Pairing:
    images = [] if listing.labels_only else listing.images
    stems = {posixpath.basename(os.path.splitext(name)[0]): name for name in images}
    pairs: Dict[str, Pair] = {}
    without_image, entries = [], 0
    # A file named like an image is not an index.
    indices = [name for name in listing.label_files
               if fnmatch.fnmatch(posixpath.basename(name), label_format.index)
               and posixpath.basename(os.path.splitext(name)[0]) not in stems]
    for name in indices:
        path = os.path.join(listing.label_folder, name)
        for key, annotation in label_format.read(path).items():
            entries += 1
            image = os.path.join(listing.image_folder, key) if listing.labels_only else (
                formats.find_image(key, path, listing.image_folder, stems))
            if image:
                pairs[os.path.realpath(image)] = Pair(
                    image, path, functools.partial(lambda regions: regions, annotation))
            else:
                without_image.append(f'{path}: {key}')
    unlabelled = [path for path in (os.path.join(listing.image_folder, name) for name in images)
                  if os.path.realpath(path) not in pairs]
    ordered = sorted(pairs.values(), key=lambda pair: pair.image_path)
    return Pairing(ordered, unlabelled, without_image, len(ordered) + len(unlabelled), entries)


def detect_format(listing: Listing) -> Tuple[str, str]:
    """Detects the format of the labels of a directory.

    Args:
        listing: of the directory.

    Returns:
        A name in DATASETS, and a description of the evidence; ``icdar`` and '' without evidence.

    Raises:
        PSENetError: the files fit several formats.
    """
    found: Dict[str, str] = {}
    for dataset, note in _evidence(listing):
        found.setdefault(dataset, note)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise PSENetError(f'the labels in {listing.label_folder} fit two data sets, {one} ({first})'
                          f' and {other} ({second}); choose one with --dataset')
    return next(iter(found.items()), ('icdar', ''))


def _evidence(listing: Listing) -> Iterator[Tuple[str, str]]:
    if _SYNTHTEXT_INDEX in listing.label_files:
        yield SYNTHTEXT, f'{_SYNTHTEXT_INDEX} exists'
    for name in fnmatch.filter(listing.label_files, DATASETS['ppocrlabel'].index):
        yield 'ppocrlabel', f'{name} exists'
    for dataset, extension in (('msra_td500', '.gt'), ('total_text', '.mat')):
        label = _first_label(listing, dataset, extension)
        if label:
            yield dataset, f'{label} exists'
    label = _first_label(listing, 'ctw1500', '.xml')
    if label and '<segs>' in _beginning(listing, label):
        yield 'ctw1500', f'{label} has <segs>'
    yield from _json_evidence(listing)
    yield from _text_evidence(listing)


def _first_label(listing: Listing, dataset: str, extension: str) -> str:
    names = tuple(name for name in DATASETS[dataset].label_names if name.endswith(extension))
    return next(iter(pair_files(listing.images, listing.label_files, names).values()), '')


def _beginning(listing: Listing, name: str) -> str:
    with open(os.path.join(listing.label_folder, name), encoding='utf-8', errors='replace') as file:
        return file.read(2 ** 16)


def _json_evidence(listing: Listing) -> Iterator[Tuple[str, str]]:
    paired = set(pair_files(listing.images, listing.label_files, ('{stem}.json',)).values())
    shapes = [name for name in sorted(paired) if '"shapes"' in _beginning(listing, name)]
    if shapes:
        yield 'labelme', f'{shapes[0]} has shapes'
    # With labels only, every file is paired with an implied image.
    paired = set(shapes) if listing.labels_only else paired
    for name in sorted(set(fnmatch.filter(listing.label_files, '*.json')) - paired):
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
    for name in labels[:_FILES_READ]:
        try:
            lines = read_text(os.path.join(listing.label_folder, name)).splitlines()
        except AnnotationError:     # reported when the file is read for training
            continue
        votes.update(_format_of_line(line.strip()) for line in lines[:_LINES_READ]
                     if line.strip())
    total = sum(votes.values())
    for dataset in ('ctw1500', 'mlt', 'total_text'):
        # Half of Total-Text's regions have four points, as in ICDAR2015.
        if total and votes[dataset] >= (0.2 if dataset == 'total_text' else 0.9) * total:
            yield dataset, f'{votes[dataset]} of {total} lines match, in {labels[0]} and others'


def _format_of_line(line: str) -> str:
    if re.match(r'x:\s*\[\[', line):
        return 'total_text'
    fields = line.split(',')
    numbers = len(list(itertools.takewhile(_is_number, fields)))
    if numbers == len(fields) == 32 or (numbers == 28 and ',####' in line):
        return 'ctw1500'
    if len(fields) > 9 and numbers == 8 and fields[8].strip() in MLT_SCRIPTS:
        return 'mlt'
    # The last field is the text, even if it is a number.
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
    """Finds the label file of each image by name, with the extension in any case.

    Args:
        images: names of images.
        labels: names of possible label files.
        label_names: as in DatasetFormat.

    Returns:
        Image name -> label name, in the given order, without unlabelled images.
    """
    def lowered(name: str) -> str:
        stem, extension = os.path.splitext(name)
        return stem + extension.lower()
    known = {lowered(name): name for name in labels}
    pairs = {}
    for image in images:
        directory, base = posixpath.split(image)
        stem = os.path.splitext(base)[0]
        candidates = (posixpath.join(directory, pattern.format(stem=stem, name=base))
                      for pattern in label_names)
        label = next((known[name] for name in candidates if name in known), None)
        if label is not None:
            pairs[image] = label
    return pairs


def _list_files(directory: str) -> List[str]:
    try:
        # Broken links are listed, so that reading them gives an error.
        return sorted(entry.name for entry in os.scandir(directory) if not entry.is_dir())
    except OSError as error:
        raise PSENetError(f'the training data directory {directory} cannot be listed: '
                          f'{error.strerror or error}') from None


def _list_nested(directory: str) -> List[str]:
    """Lists the files of a directory and its subdirectories, relative to the directory."""
    names, seen = [], set()
    for place, directories, files in os.walk(directory, followlinks=True):
        # A link may point to a parent directory.
        if os.path.realpath(place) in seen:
            directories.clear()
            continue
        seen.add(os.path.realpath(place))
        directories[:] = sorted(_visible(directories))
        below = os.path.relpath(place, directory).replace(os.sep, '/')
        names += sorted(files) if below == '.' else [f'{below}/{name}' for name in sorted(files)]
    return names
