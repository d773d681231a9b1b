"""Reads ICDAR annotation files; the only module that handles quadrilaterals and rectangles.

Each line is a region, with four corners in ICDAR2015 and two in ICDAR2013,

    x1,y1,x2,y2,x3,y3,x4,y4,transcription
    left,top,right,bottom[,transcription]

the latter also with spaces instead of commas. A transcription may contain commas and may look like
a number, so that a single line can be ambiguous; then the rest of the file decides. ICDAR2017 MLT
and RCTW-17 have another column before the transcription:

    x1,y1,x2,y2,x3,y3,x4,y4,script,transcription
    x1,y1,x2,y2,x3,y3,x4,y4,difficult,"transcription"
"""

import re
from typing import List, NamedTuple, Tuple

import numpy as np

from utils.errors import PSENetError

# Transcriptions of regions to ignore.
IGNORE_TEXTS = frozenset({'*', '###', '?'})
# Values of the script column of ICDAR2017 and ICDAR2019 MLT.
MLT_SCRIPTS = ('Arabic', 'Latin', 'Chinese', 'Japanese', 'Korean', 'Bangla', 'Hindi', 'Symbols',
               'Mixed', 'None')
_MLT_TEXT = re.compile(rf'(?:{"|".join(MLT_SCRIPTS)})\s*,(.*)', re.DOTALL)
_RCTW_TEXT = re.compile(r'([01])\s*,\s*"(.*)"', re.DOTALL)
_QUOTED_TEXT = re.compile(r'"(.*)"', re.DOTALL)

_QUAD = 8
_RECTANGLE = 4
# OpenCV reads no image with a longer side, so a larger coordinate means a broken file.
MAX_COORDINATE = 2 ** 20
_MAX_NUMBER_LENGTH = 32
# Fewer numbers may be four corners and a transcription such as 100,000.
_MIN_NUMBERS_OF_POLYGON = 12
_CTW1500 = 32
_MAX_NUMBERS = 256
# The largest real files have a few kilobytes; the limit keeps a stray archive out of memory.
_MAX_FILE_BYTES = 2 ** 22
_EXCERPT = 60


class AnnotationError(PSENetError):
    """An unusable annotation file; the message names the file and the line."""


class Annotation(NamedTuple):
    """The regions of one image, in file order."""

    polygons: List[np.ndarray]  # float32 (P, 2) each, x and y in pixels, as in the file
    ignore_tags: np.ndarray     # bool (N,)
    lines: List[int]            # line number of each region, from 1
    texts: List[str]            # transcriptions, '' if the file has none


class _Line(NamedTuple):
    where: str                  # 'path:number', for messages
    number: int
    text: str
    separator: str              # ',' or, for whitespace, ''
    values: Tuple[float, ...]   # the numbers at its start, at most _MAX_NUMBERS


def read_icdar(path: str) -> Annotation:
    """Reads a file of quadrilaterals, rectangles or both.

    A line with eight numbers is a quadrilateral, one with four a rectangle. A line with five to
    seven is a rectangle whose text starts with numbers, if the file has rectangles and no
    quadrilaterals; otherwise points are missing. A line with nine to eleven is a quadrilateral
    whose text starts with numbers; one with twelve or more is a polygon, which is an error.

    Args:
        path: annotation file, UTF-8 with or without a byte order mark, any line endings.

    Returns:
        The regions; empty for an empty file.

    Raises:
        AnnotationError: the file cannot be read or decoded, or a line has another format.
    """
    lines = _read_lines(path)
    counts = {min(len(line.values), _QUAD) for line in lines}
    rectangles = _QUAD not in counts and bool(counts & {_RECTANGLE, _RECTANGLE + 1})

    def corners(line: _Line) -> int:
        found = len(line.values)
        return _RECTANGLE if found == _RECTANGLE or (rectangles and found < _QUAD) else _QUAD
    return _annotation([(line, corners(line)) for line in lines])


def read_icdar2013(path: str) -> Annotation:
    """Reads a file of rectangles only.

    Args, Returns, Raises: as read_icdar.
    """
    return _annotation([(line, _RECTANGLE) for line in _read_lines(path)])


def read_icdar2015(path: str) -> Annotation:
    """Reads a file of quadrilaterals only.

    Args, Returns, Raises: as read_icdar.
    """
    return _annotation([(line, _QUAD) for line in _read_lines(path)])


def _read_lines(path: str) -> List[_Line]:
    """Reads the lines that are not blank."""
    text = read_text(path).replace('\r\n', '\n').replace('\r', '\n')
    return [_split(f'{path}:{number}', number, line)
            for number, line in enumerate(text.split('\n'), 1) if line.strip()]


def read_text(path: str, max_bytes: int = _MAX_FILE_BYTES) -> str:
    """Reads a UTF-8 file and removes byte order marks.

    Raises:
        AnnotationError: the file cannot be read or decoded, or is larger than ``max_bytes``.
    """
    try:
        with open(path, 'rb') as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror or error}') from None
    if len(data) > max_bytes:
        raise AnnotationError(f'{path}: larger than {max_bytes >> 20} MB, so it is not an '
                              'annotation file')
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise AnnotationError(f'{path}:{line}: is not UTF-8; convert the file, for example '
                              'with `iconv -f gbk -t utf-8`') from None
    if '\0' in text:
        line = text.count('\n', 0, text.index('\0')) + 1
        raise AnnotationError(f'{path}:{line}: has a NUL byte, so it is UTF-16 or not text; '
                              'convert the file to UTF-8')
    # Concatenated files have more than one byte order mark.
    return text.replace('\ufeff', '')


def _split(where: str, number: int, text: str) -> _Line:
    separator = ',' if re.match(r'\s*[^\s,]+\s*,', text) else ''
    values = []
    for field in text.split(separator or None, _MAX_NUMBERS)[:_MAX_NUMBERS]:
        try:
            values.append(parse_number(field))
        except ValueError:
            break
    return _Line(where, number, text, separator, tuple(values))


def parse_number(field: str) -> float:
    """Parses a coordinate; raises ValueError if the field is not one."""
    if len(field) > _MAX_NUMBER_LENGTH or '_' in field:
        raise ValueError('not written as a coordinate')
    return float(field)


def _annotation(lines: List[Tuple[_Line, int]]) -> Annotation:
    """Converts lines, each with its count of coordinates, to regions."""
    polygons = [_polygon(line, count) for line, count in lines]
    texts = [_transcription(line, count) for line, count in lines]
    return Annotation(polygons, _ignore_tags(texts), [line.number for line, _ in lines], texts)


def _ignore_tags(texts: List[str]) -> np.ndarray:
    """Finds the regions to ignore by their transcriptions: bool (N,)."""
    matches = [_RCTW_TEXT.fullmatch(text) for text in texts]
    # One transcription may look like RCTW's two columns by chance, but not all of a file.
    if texts and all(matches):
        return np.array([match.group(1) == '1' or match.group(2) == '###' for match in matches],
                        np.bool_)
    return np.array([_is_ignored(text) for text in texts], np.bool_)


def _is_ignored(text: str) -> bool:
    with_script = _MLT_TEXT.fullmatch(text)
    if with_script:
        return with_script.group(1).strip() == '###'
    quoted = _QUOTED_TEXT.fullmatch(text)
    return (quoted.group(1) if quoted else text) in IGNORE_TEXTS


def _polygon(line: _Line, count: int) -> np.ndarray:
    values = line.values[:count]
    if len(values) < count:
        raise AnnotationError(
            f'{line.where}: begins with {len(values)} numbers, but a quadrilateral has {_QUAD} '
            f'and a rectangle {_RECTANGLE}: {line.text[:_EXCERPT]!r}')
    if count == _QUAD and len(line.values) >= _MIN_NUMBERS_OF_POLYGON:
        raise _polygon_error(line)
    # NaN would pass a comparison with `>`.
    if not all(abs(value) <= MAX_COORDINATE for value in values):
        raise AnnotationError(f'{line.where}: a coordinate is not finite or exceeds '
                              f'{MAX_COORDINATE}: {line.text[:_EXCERPT]!r}')
    if count == _RECTANGLE:
        left, top, right, bottom = values
        values = (left, top, right, top, right, bottom, left, bottom)
    return np.array(values, np.float32).reshape(-1, 2)


def _polygon_error(line: _Line) -> AnnotationError:
    found = len(line.values)
    if found == _CTW1500:
        meaning = 'the format of CTW1500 (a rectangle and 14 pairs of offsets)'
    elif found % 2 == 0:
        meaning = f'a polygon of {found // 2} points'
    else:
        meaning = 'a polygon and a number'
    return AnnotationError(
        f'{line.where}: begins with {found} numbers, {meaning}, but this format has only '
        f'quadrilaterals (8 numbers) and rectangles (4), so give four corners: '
        f'{line.text[:_EXCERPT]!r}')


def _transcription(line: _Line, count: int) -> str:
    """Returns everything after the corners."""
    fields = line.text.split(line.separator or None, count)
    return fields[count].strip() if len(fields) > count else ''
