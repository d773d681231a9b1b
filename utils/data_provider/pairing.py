"""Which images and labels of a directory belong together, and the form that the labels have.

A dataset is a name in DATASETS: how its label files are called and how they are read. To add one,
write a parser in `formats`, an entry here, and what it is found by in `find_form`.
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
    """How one data set is recognised and read."""

    read: Callable[[str], Any]      # label file -> Annotation; of an index, {image: Annotation}
    # Names of the label file of an image, by its {stem} and its {name}; the first wins. Where one
    # file is for all images, an index, the pattern of its name.
    label_names: Tuple[str, ...] = ()
    index: str = ''
    polygons: bool = True           # of any shape: those that cross themselves are repaired


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
# Label files that are looked at to find the form, and lines of each.
_FILES_LOOKED_AT = 20
_LINES_LOOKED_AT = 50
# Directories of images and labels below one that is named.
_IMAGE_FOLDERS = ('images', 'imgs')
_LABEL_FOLDERS = ('labels', 'gt', 'annotations')


class Pair(NamedTuple):
    """An image and where its regions come from."""

    image_path: str
    label_path: str
    read: Callable[[], Annotation]


class Pairing(NamedTuple):
    """The pairs of a data set, and the files without a partner."""

    pairs: List[Pair]
    unlabelled_images: List[str]    # paths
    unused_labels: List[str]        # paths, or 'path: entry' of an index
    num_images: int
    num_labels: int                 # files, or entries of an index


class Listing(NamedTuple):
    """The files of a data set, before any label is read; names relative to their folders."""

    image_folder: str
    label_folder: str
    images: List[str]
    label_files: List[str]      # all that are not hidden
    labels_only: bool = False   # images is what the images of the labels would be called


def list_dataset(folder: str, label_folder: str = '', labels_only: bool = False) -> Listing:
    """Lists the images and the label files of a data set.

    Args:
        folder: holds images and labels side by side, or in ``images`` and ``labels``, ``gt`` or
            ``annotations``. Only where no image lies in it, its sub-folders are entered.
        label_folder: holds the labels where they do not lie with the images.
        labels_only: do without images: name those that would belong to the labels.

    Raises:
        PSENetError: a folder cannot be listed.
    """
    def below(names: Sequence[str]) -> str:
        paths = (os.path.join(folder, name) for name in names)
        return next((path for path in paths if os.path.isdir(path)), '')

    image_folder, names = folder, _list_files(folder)
    if labels_only:
        label_folder = label_folder or below(_LABEL_FOLDERS) or folder
        labels = _visible(_list_files(label_folder)) or _visible(_list_nested(label_folder))
        return Listing(folder, label_folder, sorted(set(map(_image_of_label, labels))), labels,
                       True)
    if not any(map(is_image_name, names)) and below(_IMAGE_FOLDERS):
        image_folder = below(_IMAGE_FOLDERS)
        names = _list_files(image_folder)
        label_folder = label_folder or below(_LABEL_FOLDERS) or folder
    # SynthText has 858,750 images, which nobody needs to list.
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
    """The image that a label file would belong to, by its name."""
    folder, base = posixpath.split(name)
    stem = re.sub('^(poly_gt_|gt_)', '', posixpath.splitext(base)[0])
    return posixpath.join(folder, stem if is_image_name(stem) else f'{stem}.jpg')


def pair(listing: Listing, form: DatasetFormat) -> Pairing:
    """Finds the labels of every image.

    Raises:
        AnnotationError: a file of labels for all images cannot be read.
    """
    if form.index:
        return _pair_by_index(listing, form)
    found = pair_files(listing.images, listing.label_files, form.label_names)
    pairs = []
    for image, label in found.items():
        path = os.path.join(listing.label_folder, label)
        pairs.append(Pair(os.path.join(listing.image_folder, image), path,
                          functools.partial(form.read, path)))
    extensions = {os.path.splitext(name)[1] for name in form.label_names}
    labels = [name for name in listing.label_files
              if os.path.splitext(name)[1].lower() in extensions]
    used = set(found.values())
    return Pairing(
        pairs,
        [os.path.join(listing.image_folder, name) for name in listing.images if name not in found],
        [os.path.join(listing.label_folder, name) for name in labels if name not in used],
        len(listing.images), len(labels))


def _pair_by_index(listing: Listing, form: DatasetFormat) -> Pairing:
    # Without images no file is one's label, and no entry lacks its image.
    images = [] if listing.labels_only else listing.images
    stems = {posixpath.basename(os.path.splitext(name)[0]): name for name in images}
    pairs: Dict[str, Pair] = {}
    without_image, entries = [], 0
    # A file of an image's own name is of another form.
    indices = [name for name in listing.label_files
               if fnmatch.fnmatch(posixpath.basename(name), form.index)
               and posixpath.basename(os.path.splitext(name)[0]) not in stems]
    for name in indices:
        path = os.path.join(listing.label_folder, name)
        for key, annotation in form.read(path).items():
            entries += 1
            image = os.path.join(listing.image_folder, key) if listing.labels_only else (
                formats.image_of(key, path, listing.image_folder, stems))
            if image:
                pairs[os.path.realpath(image)] = Pair(
                    image, path, functools.partial(lambda regions: regions, annotation))
            else:
                without_image.append(f'{path}: {key}')
    unlabelled = [path for path in (os.path.join(listing.image_folder, name) for name in images)
                  if os.path.realpath(path) not in pairs]
    ordered = sorted(pairs.values(), key=lambda pair: pair.image_path)
    return Pairing(ordered, unlabelled, without_image, len(ordered) + len(unlabelled), entries)


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
    if _SYNTHTEXT_INDEX in listing.label_files:
        yield SYNTHTEXT, f'{_SYNTHTEXT_INDEX} is there'
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
    paired = set(pair_files(listing.images, listing.label_files, ('{stem}.json',)).values())
    shapes = [name for name in sorted(paired) if '"shapes"' in _beginning(listing, name)]
    if shapes:
        yield 'labelme', f'{shapes[0]} has shapes'
    # Without images each file has a name that one would have.
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
        folder, base = posixpath.split(image)
        stem = os.path.splitext(base)[0]
        candidates = (posixpath.join(folder, pattern.format(stem=stem, name=base))
                      for pattern in label_names)
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


def _list_nested(folder: str) -> List[str]:
    """Paths, relative to the folder, of the files in it and below it."""
    names, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # A link may lead to a folder above it.
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = sorted(_visible(folders))
        below = os.path.relpath(place, folder).replace(os.sep, '/')
        names += sorted(files) if below == '.' else [f'{below}/{name}' for name in sorted(files)]
    return names
