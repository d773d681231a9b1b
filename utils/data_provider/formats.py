"""Readers of annotation formats other than ICDAR's lines, which ``annotation`` reads.

Each reader returns the polygons of a file, with any number of points. Invalid ones (fewer than
three points, no area) are removed and counted later, when the size of the image is known. Regions
that a data set marks as illegible, difficult, a crowd, or by their text are ignored in training.
"""

import json
import os
import posixpath
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple
from xml.etree import ElementTree  # nosec B405

import numpy as np

from utils.data_provider.annotation import (
    MAX_COORDINATE,
    MLT_SCRIPTS,
    Annotation,
    AnnotationError,
    parse_number,
    read_text,
)
from utils.errors import first_line

IGNORED = '###'
# Of a file for all images of a set; the largest, except SynthText's, is TextOCR's with 300 MB.
_MAX_INDEX_BYTES = 2 ** 31
_CTW1500_POINTS = 14
_EXCERPT = 60


class _Region(NamedTuple):
    where: str                  # 'path:line' or 'path: key', for messages
    number: int                 # of the line or entry, from 1
    values: Sequence[float]     # x1, y1, x2, y2, ...
    ignored: bool
    text: str = ''


def _annotation(regions: Sequence[_Region]) -> Annotation:
    for region in regions:
        # NaN would pass a comparison with `>`.
        if len(region.values) % 2 or not all(
                abs(value) <= MAX_COORDINATE for value in region.values):
            raise AnnotationError(f'{region.where}: coordinates must be pairs of finite numbers '
                                  f'up to {MAX_COORDINATE}')
    return Annotation([np.array(region.values, np.float32).reshape(-1, 2) for region in regions],
                      np.array([region.ignored for region in regions], np.bool_),
                      [region.number for region in regions],
                      [region.text for region in regions])


def _lines(path: str) -> Iterator[Tuple[int, str]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _numbers(where: str, fields: Sequence[str], syntax: str) -> List[float]:
    try:
        return [parse_number(field) for field in fields]
    except ValueError:
        raise AnnotationError(f'{where}: is not {syntax}: '
                              f'{",".join(fields)[:_EXCERPT]!r}') from None


def read_mlt(path: str) -> Annotation:
    """Reads ICDAR2017 or ICDAR2019 MLT: ``x1,y1,...,x4,y4,script,text``.

    Args:
        path: annotation file.

    Returns:
        The regions, in file order.

    Raises:
        AnnotationError: the file cannot be read, or a line has another format.
    """
    regions = []
    for number, line in _lines(path):
        where, fields = f'{path}:{number}', line.split(',', 9)
        if len(fields) < 10 or fields[8].strip() not in MLT_SCRIPTS:
            raise AnnotationError(f'{where}: is not x1,y1,..,x4,y4,script,text with a script such '
                                  f'as Latin: {line[:_EXCERPT]!r}')
        text = fields[9].strip()
        regions.append(_Region(where, number, _numbers(where, fields[:8], 'x1,y1,..,script,text'),
                               text == IGNORED, text))
    return _annotation(regions)


def read_ctw1500(path: str) -> Annotation:
    """Reads SCUT-CTW1500: lines of 32 numbers, ``x1,y1,...,x14,y14,####text``, or XML.

    Args, Returns, Raises: as read_mlt.
    """
    if path.lower().endswith('.xml'):
        return _annotation(list(_ctw1500_xml(path)))
    regions = []
    for number, line in _lines(path):
        where = f'{path}:{number}'
        points, _, text = line.partition(',####')
        values = _numbers(where, points.split(','), '32 numbers or x1,y1,..,x14,y14,####text')
        if len(values) == 4 + 2 * _CTW1500_POINTS:
            left, top = values[:2]
            values = [value + (top if place % 2 else left)
                      for place, value in enumerate(values[4:])]
        elif len(values) != 2 * _CTW1500_POINTS:
            raise AnnotationError(f'{where}: has {len(values)} numbers, but a line of CTW1500 has '
                                  '32, or 28 and a text')
        regions.append(_Region(where, number, values, text == IGNORED, text))
    return _annotation(regions)


def _ctw1500_xml(path: str) -> Iterator[_Region]:
    text = read_text(path)
    if '<!ENTITY' in text or '<!DOCTYPE' in text:
        raise AnnotationError(f'{path}: has a document type, which labels do not need; remove it')
    try:
        root = ElementTree.fromstring(text)  # nosec B314 # noqa: S314
    except ElementTree.ParseError as error:
        raise AnnotationError(f'{path}: is not XML ({error})') from None
    for number, box in enumerate(root.iter('box'), 1):
        where, text = f'{path}: box {number}', (box.findtext('label') or '').strip()
        yield _Region(where, number, _numbers(
            where, (box.findtext('segs') or '').split(','), '<segs>x1,y1,..,x14,y14</segs>'),
            text == IGNORED, text)


def read_total_text(path: str) -> Annotation:
    """Reads Total-Text: MATLAB files, ``x: [[..]], y: [[..]], ...`` or ``x1,y1,...,xn,yn,text``.

    Args, Returns, Raises: as read_mlt.
    """
    if path.lower().endswith('.mat'):
        return _annotation(list(_total_text_mat(path)))
    text = read_text(path)
    if re.match(r'\s*x:\s*\[\[', text):
        return _annotation(list(_total_text_records(path, text)))
    return _annotation([_polygon_line(f'{path}:{number}', number, line)
                        for number, line in _lines(path)])


def _total_text_mat(path: str) -> Iterator[_Region]:
    # Imported here because the import is slow and few data sets need it.
    from scipy.io import loadmat
    try:
        content = loadmat(path)
        rows = content['polygt'] if 'polygt' in content else content['gt']
        rows = np.atleast_2d(rows)
        for number, row in enumerate(rows, 1):
            x, y = np.ravel(row[1]), np.ravel(row[3])
            text, orientation = (str(np.ravel(cell)[0]).strip() if np.size(cell) else ''
                                 for cell in (row[4], row[5]))
            # The orientation is the official rule; many tools go by the text.
            yield _Region(f'{path}: row {number}', number,
                          np.column_stack([x, y]).astype(float).ravel().tolist(),
                          '#' in (text, orientation) or text == IGNORED, text)
    except Exception as error:  # with damaged files, SciPy may raise anything, even MemoryError
        raise AnnotationError(f'{path}: is not a MATLAB file of Total-Text '
                              f'({first_line(error)})') from None


def _total_text_records(path: str, text: str) -> Iterator[_Region]:
    # Long arrays are wrapped over several lines: a record begins at a line with "x:".
    for number, record in enumerate(re.split(r'(?m)^(?=\s*x:)', text.strip()), 1):
        if not record.strip():
            continue
        where = f'{path}: record {number}'
        found = [re.search(rf'{axis}:\s*\[\[([^\]]*)\]\]', record) for axis in 'xy']
        if not all(found):
            raise AnnotationError(f'{where}: has no x: [[..]] and y: [[..]]')
        x, y = (_numbers(where, each.group(1).split(), 'x: [[..]], y: [[..]]') for each in found)
        if len(x) != len(y):
            raise AnnotationError(f'{where}: has {len(x)} x but {len(y)} y coordinates')
        found = [re.search(rf"{name}:\s*\[u?['\"]?(.*?)['\"]?\]", record, re.DOTALL)
                 for name in ('ornt', 'transcriptions')]
        marks = [mark.group(1).strip() if mark else '' for mark in found]
        yield _Region(where, number, np.column_stack([x, y]).ravel().tolist(),
                      any(mark in ('#', IGNORED) for mark in marks), marks[1])


def _polygon_line(where: str, number: int, line: str) -> _Region:
    """Parses ``x1,y1,...,xn,yn,text``; the last field is the text, even if it is a number."""
    fields = line.split(',')
    count = 0
    for field in fields[:-1]:
        try:
            parse_number(field)
        except ValueError:
            break
        count += 1
    # If the count is odd, the last number belongs to a text with a comma.
    count -= count % 2
    # Published files have regions of one or two points, which are later counted as invalid.
    if count < 2:
        raise AnnotationError(f'{where}: has no points before its text: {line[:_EXCERPT]!r}')
    text = ','.join(fields[count:]).strip()
    return _Region(where, number, [float(field) for field in fields[:count]], text == IGNORED,
                   text)


def read_msra_td500(path: str) -> Annotation:
    """Reads MSRA-TD500 and HUST-TR400: ``index difficult x y w h angle [text]``.

    x, y, w and h are those of the upright rectangle, which the angle, in radians, rotates
    clockwise on the screen around its centre.

    Args, Returns, Raises: as read_mlt.
    """
    regions = []
    for number, line in _lines(path):
        where, fields = f'{path}:{number}', line.split(None, 7)
        values = _numbers(where, fields[:7], 'index difficult x y w h angle')
        if len(values) < 7:
            raise AnnotationError(f'{where}: has {len(values)} numbers, but '
                                  'index difficult x y w h angle are 7')
        _, difficult, x, y, width, height, angle = values
        corners = np.array([(-width, -height), (width, -height), (width, height),
                            (-width, height)]) / 2
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = corners @ turn + (x + width / 2, y + height / 2)
        regions.append(_Region(where, number, points.ravel().tolist(), difficult != 0,
                               ''.join(fields[7:])))
    return _annotation(regions)


def read_json(path: str) -> Any:
    """Parses a JSON file.

    Raises:
        AnnotationError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path, _MAX_INDEX_BYTES))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f'{path}: is not JSON ({error})') from None


def _checked(path: str, read: Callable[[], Any]) -> Any:
    """Turns the exceptions raised by a wrong structure into an AnnotationError."""
    try:
        return read()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise AnnotationError(f'{path}: does not have the structure of its format '
                              f'({type(error).__name__}: {error})') from None


def _flat(points: Any) -> List[float]:
    return [float(value) for value in np.asarray(points, np.float64).ravel()]


def read_labelme(path: str) -> Annotation:
    """Reads a file of labelme: shapes ``polygon`` and ``rectangle``; others are ignored.

    Args, Returns, Raises: as read_mlt.
    """
    def read() -> Annotation:
        regions = []
        for number, shape in enumerate(read_json(path)['shapes'], 1):
            kind, values = shape.get('shape_type') or 'polygon', _flat(shape['points'])
            if kind == 'rectangle':
                (left, right), (top, bottom) = sorted(values[0::2]), sorted(values[1::2])
                values = [left, top, right, top, right, bottom, left, bottom]
            if kind in ('polygon', 'rectangle', 'rotation'):
                text = str(shape.get('label', '')).strip()
                regions.append(_Region(f'{path}: shape {number}', number, values, text == IGNORED,
                                       text))
        return _annotation(regions)
    return _checked(path, read)


def read_coco(path: str) -> Dict[str, Annotation]:
    """Reads COCO-Text, TextOCR, or COCO instances with polygons.

    Args:
        path: JSON file of all images.

    Returns:
        Image name, as in the file -> regions.

    Raises:
        AnnotationError: the file cannot be read, or has another structure.
    """
    def read() -> Dict[str, Annotation]:
        content = read_json(path)
        images = content.get('imgs', content.get('images'))
        entries = content.get('anns', content.get('annotations'))
        names = {str(image['id']): image.get('file_name') or image['filename']
                 for image in (images.values() if isinstance(images, dict) else images)}
        found: Dict[str, List[_Region]] = {name: [] for name in names.values()}
        for entry in entries.values() if isinstance(entries, dict) else entries:
            name = names[str(entry['image_id'])]
            number = len(found[name]) + 1
            where = f'{path}: annotation {entry.get("id", number)}'
            text = str(entry.get('utf8_string', entry.get('text', ''))).strip()
            ignored = bool(entry.get('iscrowd')) or text in ('.', IGNORED) or (
                entry.get('legibility') == 'illegible')
            for values in _coco_polygons(entry, where):
                found[name].append(_Region(where, number, values, ignored, text))
        return {name: _annotation(regions) for name, regions in found.items()}
    return _checked(path, read)


def _coco_polygons(entry: Dict[str, Any], where: str) -> List[List[float]]:
    """Returns the polygons of an entry, or its box if it has no polygon."""
    segmentation = entry.get('segmentation')
    if isinstance(segmentation, dict):
        raise AnnotationError(f'{where}: is a run-length mask; only polygons can be read')
    if segmentation:
        return [_flat(polygon) for polygon in segmentation]
    values = _flat(entry.get('points') or entry.get('mask') or entry.get('polygon') or [])
    if len(values) < 6 or len(values) % 2:
        left, top, width, height = _flat(entry['bbox'])
        values = [left, top, left + width, top, left + width, top + height, left, top + height]
    return [values]


def read_art(path: str) -> Dict[str, Annotation]:
    """Reads ICDAR2019 ArT or LSVT: ``{"gt_0": [{"points": .., "transcription": ..}, ..], ..}``.

    Args, Raises: as read_coco.

    Returns:
        Stem of the image's name, ``gt_0`` -> regions.
    """
    def read() -> Dict[str, Annotation]:
        return {name: _annotation([
            _Region(f'{path}: {name}, region {number}', number, _flat(entry['points']),
                    bool(entry.get('illegibility')) or entry['transcription'].strip() == IGNORED,
                    entry['transcription'].strip())
            for number, entry in enumerate(entries, 1)])
            for name, entries in read_json(path).items()}
    return _checked(path, read)


def read_ppocrlabel(path: str) -> Dict[str, Annotation]:
    """Reads PPOCRLabel's ``Label.txt``: on each line a path, a tab, and a JSON list.

    Args, Raises: as read_coco.

    Returns:
        Path of the image, as in the file but with ``/`` -> regions.
    """
    found = {}
    for number, line in enumerate(read_text(path, _MAX_INDEX_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        where = f'{path}:{number}'
        name, tab, text = line.partition('\t')
        if not tab:
            raise AnnotationError(f'{where}: has no tab between the path and the regions')

        def read(text: str = text, where: str = where) -> Annotation:
            regions = []
            for place, entry in enumerate(json.loads(text), 1):
                word = str(entry.get('transcription', '')).strip()
                regions.append(_Region(where, place, _flat(entry['points']), bool(
                    entry.get('difficult')) or word in ('*', IGNORED), word))
            return _annotation(regions)
        found[posixpath.normpath(name.strip().replace('\\', '/'))] = _checked(where, read)
    return found


class SynthTextIndex:
    """The words of SynthText's ``gt.mat`` in flat arrays, about 40 bytes per word.

    Args:
        path: of the file.
        with_texts: read the transcriptions as well, which takes several times the memory.

    Raises:
        AnnotationError: the file cannot be read, or has another structure.
    """

    def __init__(self, path: str, with_texts: bool = False):
        from scipy.io import loadmat
        self._path = path
        variables = ['imnames', 'wordBB'] + ['txt'] * with_texts
        try:
            # The boxes of characters, two thirds of the file, are not loaded.
            content = loadmat(path, variable_names=variables)
            names = [str(np.ravel(cell)[0]) for cell in np.ravel(content.pop('imnames'))]
            cells = np.ravel(content.pop('wordBB'))
            self._texts = np.ravel(content['txt']) if with_texts else None
            if len(cells) != len(names):
                raise ValueError(f'{len(names)} names and {len(cells)} sets of boxes')
            counts = np.empty(len(cells), np.int64)
            for place, cell in enumerate(cells):
                # The third axis is missing for an image with one word.
                if cell.shape[:2] != (2, 4) or cell.ndim > 3:
                    raise ValueError(f'boxes of shape {cell.shape}')
                counts[place] = cell.shape[2] if cell.ndim == 3 else 1
            self._ends = np.cumsum(counts)
            self._points = np.empty((counts.sum(), 4, 2), np.float32)
            for cell, end, count in zip(cells, self._ends, counts):
                self._points[end - count:end] = cell.reshape(2, 4, -1).transpose(2, 1, 0)
            # NaN would pass a comparison with `>`. Words without area are invalid.
            usable = (np.abs(self._points) <= MAX_COORDINATE).all(axis=(1, 2))
            self._points[~usable] = 0
        except Exception as error:  # with damaged files, SciPy may raise anything
            raise AnnotationError(f'{path}: is not the gt.mat of SynthText '
                                  f'({first_line(error)})') from None
        # A bytes array takes a third of the memory of strings.
        self._names = np.char.encode(names, 'utf-8') if names else np.empty(0, 'S1')

    def __len__(self) -> int:
        return len(self._names)

    @property
    def num_words(self) -> int:
        """Number of words in all images."""
        return len(self._points)

    def name(self, index: int) -> str:
        """Returns the path of an image, relative to the directory of the data set."""
        return self._names[index].decode('utf-8')

    def read(self, index: int) -> Annotation:
        """Returns the words of an image; those that are not finite have no area."""
        begin = self._ends[index - 1] if index else 0
        points = self._points[begin:self._ends[index]]
        texts = [''] * len(points)
        if self._texts is not None:
            words = [word for entry in np.ravel(self._texts[index]) for word in str(entry).split()]
            if len(words) == len(points):
                texts = words
        where = f'{self._path}: {self.name(index)}'
        return _annotation([_Region(where, number, word.ravel(), False, text)
                            for number, (word, text) in enumerate(zip(points, texts), 1)])


def repair_polygon(polygon: np.ndarray) -> Tuple[np.ndarray, bool]:
    """Repairs a polygon that intersects itself.

    Args:
        polygon: float32 (P, 2), x and y.

    Returns:
        The polygon if it is simple, or else its largest simple part if that is at least nine
        tenths of its area; and True, or False if the polygon cannot be used.
    """
    from shapely.geometry import Polygon
    from shapely.validation import make_valid

    shape = Polygon(polygon)
    if shape.is_valid:
        return polygon, True
    made = make_valid(shape)
    parts = [part for part in getattr(made, 'geoms', [made]) if part.geom_type == 'Polygon']
    parts += [inner for part in getattr(made, 'geoms', []) if part.geom_type == 'MultiPolygon'
              for inner in part.geoms]
    largest = max(parts, key=lambda part: part.area, default=None)
    if largest is None or largest.interiors or (
            largest.area < 0.9 * sum(part.area for part in parts)):
        return polygon, False
    return np.array(largest.exterior.coords[:-1], np.float32), True


def find_image(key: str, index_path: str, image_folder: str, stems: Dict[str, str]) -> str:
    """Finds the image of an entry of an index file.

    Args:
        key: of the entry: a path, a name, or a stem.
        index_path: the index file.
        image_folder: directory of the images.
        stems: stem -> name of the images in that directory.

    Returns:
        The first path that exists: in the image directory, beside the index, in the parent of its
        directory, by the base name or by the stem; '' if none exists.
    """
    beside = os.path.dirname(os.path.abspath(index_path))
    for directory, name in ((image_folder, key), (beside, key), (os.path.dirname(beside), key),
                            (image_folder, posixpath.basename(key)),
                            (beside, posixpath.basename(key))):
        path = os.path.join(directory, *name.split('/'))
        if os.path.isfile(path):
            return path
    stem = posixpath.basename(key)
    name = stems.get(stem) or stems.get(os.path.splitext(stem)[0])
    return os.path.join(image_folder, name) if name else ''
