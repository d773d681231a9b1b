"""Annotation files to polygons; the only place that knows quadrilaterals and rectangles.

A file has a region a line. ICDAR2015 gives four corners and ICDAR2013 two,

    x1,y1,x2,y2,x3,y3,x4,y4,transcription
    left,top,right,bottom[,transcription]

the latter also with blanks for commas. A transcription may hold commas and may look like a number,
so a line by itself can be ambiguous; the rest of its file then decides. ICDAR2017 MLT and RCTW-17
have a column more before the transcription:

    x1,y1,x2,y2,x3,y3,x4,y4,script,transcription
    x1,y1,x2,y2,x3,y3,x4,y4,difficult,"transcription"
"""

import re
from typing import List, NamedTuple, Tuple

import numpy as np

from utils.errors import PSENetError

# What stands in place of a transcription where a region is not to be learnt.
IGNORE_TEXTS = frozenset({'*', '###', '?'})
# The column of scripts of ICDAR2017 and ICDAR2019 MLT.
MLT_SCRIPTS = ('Arabic', 'Latin', 'Chinese', 'Japanese', 'Korean', 'Bangla', 'Hindi', 'Symbols',
               'Mixed', 'None')
_MLT_TEXT = re.compile(rf'(?:{"|".join(MLT_SCRIPTS)})\s*,(.*)', re.DOTALL)
_RCTW_TEXT = re.compile(r'([01])\s*,\s*"(.*)"', re.DOTALL)
_QUOTED_TEXT = re.compile(r'"(.*)"', re.DOTALL)

_QUAD = 8
_RECTANGLE = 4
# OpenCV reads no image with a longer side; beyond it a coordinate is a broken file, not text that
# reaches out of the picture.
MAX_COORDINATE = 2 ** 20
_MAX_NUMBER_LENGTH = 32
# Fewer numbers after the corners may be a transcription such as 100,000; this many are points.
_FEWEST_OF_A_POLYGON = 12
_CTW1500 = 32
_MOST_NUMBERS = 256
# The largest real files have some kilobytes; a bound keeps a stray archive out of memory.
_MAX_FILE_BYTES = 2 ** 22
_EXCERPT = 60


class AnnotationError(PSENetError):
    """An annotation file that cannot be used; the message names the file and the line."""


class Annotation(NamedTuple):
    """The regions of one image, in file order."""

    polygons: List[np.ndarray]  # float32 (P, 2) each, x and y in pixels, as the file has them
    ignore_tags: np.ndarray     # bool (N,)
    lines: List[int]            # where each region stands in the file, from 1
    texts: List[str]            # transcriptions, '' where the file has none


class _Line(NamedTuple):
    where: str                  # 'path:number', for messages
    number: int
    text: str
    separator: str              # ',' or, for blanks, ''
    values: Tuple[float, ...]   # the numbers that the line begins with, at most _MOST_NUMBERS


def read_icdar(path: str) -> Annotation:
    """Reads a file of quadrilaterals, of rectangles, or of both mixed, and finds out which.

    A line of eight numbers is a quadrilateral, one of four a rectangle. With five to seven it is a
    rectangle that bears a number for a text if the file as a whole speaks of rectangles; where the
    file has quadrilaterals, or nothing but such lines of six or seven, it lacks points. With nine
    to eleven it is a quadrilateral whose text is a number; with twelve or more it is a polygon.

    Args:
        path: annotation file, UTF-8 with or without a byte order mark, any line ends.

    Returns:
        The regions; none for a file without text.

    Raises:
        AnnotationError: the file cannot be read or decoded, or a line is neither.
    """
    lines = _read_lines(path)
    counts = {min(len(line.values), _QUAD) for line in lines}
    rectangles = _QUAD not in counts and bool(counts & {_RECTANGLE, _RECTANGLE + 1})

    def corners(line: _Line) -> int:
        found = len(line.values)
        return _RECTANGLE if found == _RECTANGLE or (rectangles and found < _QUAD) else _QUAD
    return _annotation([(line, corners(line)) for line in lines])


def read_icdar2013(path: str) -> Annotation:
    """Reads a file that holds rectangles alone, whatever their texts look like.

    Args, Returns, Raises: as read_icdar.
    """
    return _annotation([(line, _RECTANGLE) for line in _read_lines(path)])


def read_icdar2015(path: str) -> Annotation:
    """Reads a file that holds quadrilaterals alone.

    Args, Returns, Raises: as read_icdar.
    """
    return _annotation([(line, _QUAD) for line in _read_lines(path)])


def _read_lines(path: str) -> List[_Line]:
    """The lines that are not blank."""
    text = read_text(path).replace('\r\n', '\n').replace('\r', '\n')
    return [_split(f'{path}:{number}', number, line)
            for number, line in enumerate(text.split('\n'), 1) if line.strip()]


def read_text(path: str, max_bytes: int = _MAX_FILE_BYTES) -> str:
    """Reads a file as UTF-8, without byte order marks.

    Raises:
        AnnotationError: it cannot be read or decoded, or is larger than ``max_bytes``.
    """
    try:
        with open(path, 'rb') as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror or error}') from None
    if len(data) > max_bytes:
        raise AnnotationError(f'{path}: larger than {max_bytes >> 20} MB, which is no '
                              'annotation file')
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise AnnotationError(f'{path}:{line}: is not UTF-8; convert the file, for example '
                              'with `iconv -f gbk -t utf-8`') from None
    if '\0' in text:
        line = text.count('\n', 0, text.index('\0')) + 1
        raise AnnotationError(f'{path}:{line}: has a NUL byte, so it is UTF-16 or no text at all; '
                              'convert the file to UTF-8')
    # Every byte order mark, not just the first: joined files have more.
    return text.replace('\ufeff', '')


def _split(where: str, number: int, text: str) -> _Line:
    separator = ',' if re.match(r'\s*[^\s,]+\s*,', text) else ''
    values = []
    for field in text.split(separator or None, _MOST_NUMBERS)[:_MOST_NUMBERS]:
        try:
            values.append(parse_number(field))
        except ValueError:
            break
    return _Line(where, number, text, separator, tuple(values))


def parse_number(field: str) -> float:
    """A coordinate; ValueError where the field is not written as one."""
    if len(field) > _MAX_NUMBER_LENGTH or '_' in field:
        raise ValueError('not written as a coordinate')
    return float(field)


def _annotation(lines: List[Tuple[_Line, int]]) -> Annotation:
    """Regions from lines, each with the count of numbers that are its corners."""
    polygons = [_polygon(line, count) for line, count in lines]
    texts = [_transcription(line, count) for line, count in lines]
    return Annotation(polygons, _ignore_tags(texts), [line.number for line, _ in lines], texts)


def _ignore_tags(texts: List[str]) -> np.ndarray:
    """Bool (N,): which regions of a file are not to be learnt, by what follows their corners."""
    of_rctw = [_RCTW_TEXT.fullmatch(text) for text in texts]
    # A transcription may look like RCTW's two columns by chance; those of a whole file do not.
    if texts and all(of_rctw):
        return np.array([found.group(1) == '1' or found.group(2) == '###' for found in of_rctw],
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
            f'{line.where}: begins with {len(values)} numbers where a quadrilateral has {_QUAD} '
            f'and a rectangle {_RECTANGLE}: {line.text[:_EXCERPT]!r}')
    if count == _QUAD and len(line.values) >= _FEWEST_OF_A_POLYGON:
        raise _polygon_error(line)
    # Not a comparison with `>`, which NaN would pass.
    if not all(abs(value) <= MAX_COORDINATE for value in values):
        raise AnnotationError(f'{line.where}: a coordinate is not finite or beyond '
                              f'{MAX_COORDINATE}: {line.text[:_EXCERPT]!r}')
    if count == _RECTANGLE:
        left, top, right, bottom = values
        values = (left, top, right, top, right, bottom, left, bottom)
    return np.array(values, np.float32).reshape(-1, 2)


def _polygon_error(line: _Line) -> AnnotationError:
    """Only the first four points of such a line would be used, and the rest taken for its text."""
    found = len(line.values)
    if found == _CTW1500:
        form = "the form of CTW1500's lines (a rectangle and 14 pairs of offsets)"
    elif found % 2 == 0:
        form = f'a polygon of {found // 2} points'
    else:
        form = 'a polygon and a number'
    return AnnotationError(
        f'{line.where}: begins with {found} numbers, {form}; lines of quadrilaterals (8 numbers) '
        f'and rectangles (4) can be read, so give four corners: {line.text[:_EXCERPT]!r}')


def _transcription(line: _Line, count: int) -> str:
    """What follows the corners: all of it, whatever it holds."""
    fields = line.text.split(line.separator or None, count)
    return fields[count].strip() if len(fields) > count else ''
