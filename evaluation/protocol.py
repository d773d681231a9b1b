"""Lines of ground truth and results -> boxes, by the rules of ICDAR2015 Task 4.1.

A line of ground truth is ``x1,y1,x2,y2,x3,y3,x4,y4,transcription``, the points clockwise in image
coordinates (y down); the transcription may hold commas, and ``###`` marks a do-not-care region. A
file of ground truth may have ICDAR2013's rectangles instead, ``left, top, right, bottom, "text"``.
A line of results is four points without transcription. Coordinates are integers. Empty lines count
for nothing; every other line that does not follow the rules is an error that names it.
"""

import functools
import io
import re
from typing import Dict, List, NamedTuple, Pattern, Tuple

import numpy as np

from evaluation.archive import list_names, read_archive
from evaluation.overlap import signed_areas
from evaluation.parameters import (
    ANY_DET_NAME,
    ANY_GT_NAME,
    DEFAULT_PARAMETERS,
    Parameters,
    ProtocolError,
    shown,
)

# Pairs of a region and a detection of one sample: bounds time and memory. A page of 10,000 words
# has 100 million.
MAX_PAIRS = 400000000

# Seven digits keep every product of coordinates exact in float64.
_COORDINATE = r'[ \t]*(-?[0-9]{1,7})[ \t]*'
_CONFIDENCE = r'[ \t]*((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)[ \t]*'
_TRANSCRIPTION = r'([^\r\n]*)'
_DO_NOT_CARE = ('###', '"###"')
# Ground truth with one column more before the transcription: the script of ICDAR2017 and ICDAR2019
# MLT, and RCTW-17's flag of a difficult text.
_MLT_DO_NOT_CARE = re.compile(
    '(?:Arabic|Latin|Chinese|Japanese|Korean|Bangla|Hindi|Symbols|Mixed|None)'
    '[ \t]*,[ \t]*###[ \t]*')
_RCTW = re.compile(r'[ \t]*([01])[ \t]*,[ \t]*"(.*)"[ \t]*')
# A transcription may be a number with commas in it, but no more of it: these are further points.
_FURTHER_POINTS = re.compile(r'(?:[ \t]*-?[0-9]+(?:\.[0-9]*)?[ \t]*(?:,|$)){4}')


class GroundTruth(NamedTuple):
    """A sample's regions: ``quads`` int64 (N, 4, 2), x, y; ``ignore_tags`` bool (N,)."""

    quads: np.ndarray
    ignore_tags: np.ndarray


class Detections(NamedTuple):
    """A sample's results: ``quads`` int64 (N, 4, 2), x, y; ``confidences`` float64 (N,), 0..1.

    Without the parameter CONFIDENCES all confidences are 1.
    """

    quads: np.ndarray
    confidences: np.ndarray


# A text that begins with a further number would be a line of points with a fault in it.
_RECTANGLE = re.compile(
    r'^' + r'[ \t]*[, \t][ \t]*'.join([r'[ \t]*(-?[0-9]{1,7})'] + [r'(-?[0-9]{1,7})'] * 3)
    + r'(?:[ \t]*[, \t][ \t]*(?!-?[0-9.]+[ \t]*[, \t])([^\r\n]*?))?[ \t]*\r?$', re.MULTILINE)


class _LineFormat(NamedTuple):
    pattern: Pattern    # a group a field, coordinates first
    coordinates: int    # how many
    expected: str       # for messages


def with_names_of(path: str, parameters: Parameters) -> Parameters:
    """Follows the names of the entries of a ground truth where the parameters have the defaults.

    Args:
        path: zip archive.
        parameters: of the protocol.

    Returns:
        The parameters; with the patterns for images of any name where the archive has an entry
        ``gt_<name>.txt`` that does not match ``gt_img_<number>.txt``.

    Raises:
        ProtocolError: the archive cannot be read.
    """
    defaults = DEFAULT_PARAMETERS
    if (parameters.GT_SAMPLE_NAME_2_ID, parameters.DET_SAMPLE_NAME_2_ID) != (
            defaults.GT_SAMPLE_NAME_2_ID, defaults.DET_SAMPLE_NAME_2_ID):
        return parameters
    others = [name for name in list_names(path) if re.fullmatch(ANY_GT_NAME, name)
              and not re.fullmatch(defaults.GT_SAMPLE_NAME_2_ID, name)]
    return parameters._replace(
        GT_SAMPLE_NAME_2_ID=ANY_GT_NAME, DET_SAMPLE_NAME_2_ID=ANY_DET_NAME,
    ) if others else parameters


def read_ground_truth(path: str, parameters: Parameters) -> Dict[str, GroundTruth]:
    """Reads an archive of ground truth; entries of other names are left out.

    Args:
        path: zip archive.
        parameters: names, form and line ends of the entries.

    Returns:
        Regions by id of the sample, in the order of the archive; at least one sample.

    Raises:
        ProtocolError: the archive cannot be read, a line is wrong, or the archive holds no sample.
    """
    entries = read_archive(path, parameters.GT_SAMPLE_NAME_2_ID, strict=False)
    if not entries:
        raise ProtocolError(f'{path} holds no ground truth: no entry is named '
                            f'{parameters.GT_SAMPLE_NAME_2_ID}')
    return {sample_id: parse_ground_truth(entry.text, entry.source, parameters)
            for sample_id, entry in entries.items()}


def read_detections(path: str, parameters: Parameters,
                    ground_truth: Dict[str, GroundTruth]) -> Dict[str, Detections]:
    """Reads an archive of results; it need not hold every sample.

    Args:
        path: zip archive.
        parameters: names, form and line ends of the entries.
        ground_truth: the samples that there are.

    Returns:
        Detections by id of the sample, in the order of the archive.

    Raises:
        ProtocolError: the archive cannot be read, an entry is not a sample of the ground truth, a
            line is wrong, or it has far too many boxes.
    """
    entries = read_archive(path, parameters.DET_SAMPLE_NAME_2_ID, strict=True)
    detections = {}
    for sample_id, entry in entries.items():
        if sample_id not in ground_truth:
            raise ProtocolError(f'{entry.source}: the ground truth has no sample {sample_id}')
        found = parse_detections(entry.text, entry.source, parameters)
        regions = len(ground_truth[sample_id].quads)
        if len(found.quads) * regions > MAX_PAIRS:
            raise ProtocolError(f'{entry.source}: {len(found.quads)} boxes are too many for '
                                f'{regions} regions; {MAX_PAIRS} pairs of them are allowed')
        detections[sample_id] = found
    return detections


def parse_ground_truth(text: str, source: str, parameters: Parameters) -> GroundTruth:
    """Reads the regions of one sample.

    Args:
        text: the file.
        source: how messages name the file.
        parameters: form and line ends.

    Returns:
        The regions in file order.

    Raises:
        ProtocolError: a line is not of the form, or its points are in the wrong order.
    """
    line_format = _line_format(parameters.LTRB, parameters.CRLF, 'transcription')
    rows = _rectangle_rows(text, parameters)
    if rows:
        line_format = line_format._replace(coordinates=4)
    else:
        rows = _rows(text, source, line_format)
    quads = _quads(rows, text, source, line_format)
    texts = [row[-1] for row in rows]
    if line_format.coordinates > 4:
        _refuse(np.array([_FURTHER_POINTS.match(each) is not None for each in texts], bool), text,
                source, 'a polygon of more than four points; this protocol scores quadrilaterals')
    return GroundTruth(quads, _ignore_tags(texts))


def _ignore_tags(texts: List[str]) -> np.ndarray:
    """Bool (N,): the do-not-care regions of a file, by what follows their corners."""
    of_rctw = [_RCTW.fullmatch(each) for each in texts]
    # A transcription may look like RCTW's two columns by chance; those of a whole file do not.
    if texts and all(of_rctw):
        return np.array([each.group(1) == '1' or each.group(2) == '###' for each in of_rctw], bool)
    return np.array([each in _DO_NOT_CARE or _MLT_DO_NOT_CARE.fullmatch(each) is not None
                     for each in texts], bool)


def parse_detections(text: str, source: str, parameters: Parameters) -> Detections:
    """Reads the detections of one sample.

    Args:
        text: the file.
        source: how messages name the file.
        parameters: form, line ends, and whether there are confidences.

    Returns:
        The detections in file order.

    Raises:
        ProtocolError: a line is not of the form, its points are in the wrong order, or its
            confidence is above 1.
    """
    last_field = 'confidence' if parameters.CONFIDENCES else ''
    line_format = _line_format(parameters.LTRB, parameters.CRLF, last_field)
    rows = _rows(text, source, line_format)
    quads = _quads(rows, text, source, line_format)
    if not parameters.CONFIDENCES:
        return Detections(quads, np.ones(len(rows)))
    confidences = np.array([float(row[-1]) for row in rows], np.float64)
    _refuse(confidences > 1, text, source, 'the confidence must be from 0 to 1')
    return Detections(quads, confidences)


@functools.lru_cache(maxsize=None)
def _line_format(ltrb: bool, crlf: bool, last_field: str) -> _LineFormat:
    names = ['left', 'top', 'right', 'bottom'] if ltrb else [
        f'{axis}{point}' for point in range(1, 5) for axis in 'xy']
    fields = [_COORDINATE] * len(names)
    if last_field:
        fields.append({'transcription': _TRANSCRIPTION, 'confidence': _CONFIDENCE}[last_field])
    line_end = r'(?:\r$|\Z)' if crlf else r'\r?$'
    expected = ','.join(names + [last_field] * bool(last_field))
    return _LineFormat(re.compile('^' + ','.join(fields) + line_end, re.MULTILINE), len(names),
                       f'{expected} with integer coordinates of at most 7 digits'
                       + (', ending in CRLF' if crlf else ''))


def _rectangle_rows(text: str, parameters: Parameters) -> List[Tuple[str, ...]]:
    """Fields of a file of which every line is a rectangle and none has four points; else none."""
    lines = _lines(text)
    quads = _line_format(False, False, 'transcription').pattern
    if parameters.LTRB or parameters.CRLF or not lines or quads.search(text):
        return []
    rows = _RECTANGLE.findall(text)
    return rows if len(rows) == len(lines) else []


def _rows(text: str, source: str, line_format: _LineFormat) -> List[Tuple[str, ...]]:
    """Fields of every line that is not empty: one scan, and line by line if it misses one."""
    rows = line_format.pattern.findall(text)
    lines = _lines(text)
    if len(rows) < len(lines):
        number, line = next(item for item in lines if not line_format.pattern.match(item[1]))
        raise ProtocolError(f'{source}, line {number}: expected {line_format.expected}, found '
                            f'{shown(line.rstrip())}')
    return rows


def _lines(text: str) -> List[Tuple[int, str]]:
    """Number (from 1) and text, with its end, of every line that is not empty."""
    lines = io.StringIO(text, newline='\n')
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip('\r\n')]


def _quads(rows: List[Tuple[str, ...]], text: str, source: str,
           line_format: _LineFormat) -> np.ndarray:
    count = line_format.coordinates
    values = np.array([[int(field) for field in row[:count]] for row in rows], np.int64)
    if count == 4:
        left, top, right, bottom = columns = values.reshape(-1, 4).T
        _refuse((left > right) | (top > bottom), text, source,
                'left must not exceed right, nor top bottom')
        return columns[[0, 1, 2, 1, 2, 3, 0, 3]].T.reshape(-1, 4, 2)
    quads = values.reshape(-1, 4, 2)
    _refuse(signed_areas(quads) < 0, text, source,
            'the points are counter-clockwise; they must run clockwise as seen in the image')
    return quads


def _refuse(wrong: np.ndarray, text: str, source: str, problem: str) -> None:
    """Raises for the first row that is wrong; ``wrong`` bool (N,)."""
    if wrong.any():
        number, line = _lines(text)[int(wrong.argmax())]
        raise ProtocolError(f'{source}, line {number}: {problem}: {shown(line.rstrip())}')
