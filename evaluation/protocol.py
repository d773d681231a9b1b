"""Parses lines of ground truth and results by the rules of ICDAR2015 Task 4.1.

A line of ground truth is ``x1,y1,x2,y2,x3,y3,x4,y4,transcription`` with clockwise points in image
coordinates (y down); the transcription may contain commas, and ``###`` marks a do-not-care region.
A file may instead have the rectangles of ICDAR2013, ``left, top, right, bottom, "text"``. A line of
results is four points without transcription. Coordinates are integers. Empty lines are ignored; any
other invalid line is an error.
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

# Limit of the pairs of a region and a detection in one sample; a page of 10,000 words has 100
# million.
MAX_PAIRS = 400000000

# Seven digits keep every product of coordinates exact in float64.
_COORDINATE = r'[ \t]*(-?[0-9]{1,7})[ \t]*'
_CONFIDENCE = r'[ \t]*((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)[ \t]*'
_TRANSCRIPTION = r'([^\r\n]*)'
_DO_NOT_CARE = ('###', '"###"')
# Ground truth with an additional column before the transcription: the script in ICDAR2017 and
# ICDAR2019 MLT, and the flag of a difficult text in RCTW-17.
_MLT_DO_NOT_CARE = re.compile(
    '(?:Arabic|Latin|Chinese|Japanese|Korean|Bangla|Hindi|Symbols|Mixed|None)'
    '[ \t]*,[ \t]*###[ \t]*')
_RCTW = re.compile(r'[ \t]*([01])[ \t]*,[ \t]*"(.*)"[ \t]*')
# A transcription may be a number with commas, but more numbers than that are further points.
_FURTHER_POINTS = re.compile(r'(?:[ \t]*-?[0-9]+(?:\.[0-9]*)?[ \t]*(?:,|$)){4}')


class GroundTruth(NamedTuple):
    """A sample's regions: ``quads`` int64 (N, 4, 2), x, y; ``ignore_tags`` bool (N,)."""

    quads: np.ndarray
    ignore_tags: np.ndarray


class Detections(NamedTuple):
    """A sample's results: ``quads`` int64 (N, 4, 2), x, y; ``confidences`` float64 (N,), 0..1.

    All confidences are 1 without the parameter CONFIDENCES.
    """

    quads: np.ndarray
    confidences: np.ndarray


# A text that begins with another number indicates an invalid line of points.
_RECTANGLE = re.compile(
    r'^' + r'[ \t]*[, \t][ \t]*'.join([r'[ \t]*(-?[0-9]{1,7})'] + [r'(-?[0-9]{1,7})'] * 3)
    + r'(?:[ \t]*[, \t][ \t]*(?!-?[0-9.]+[ \t]*[, \t])([^\r\n]*?))?[ \t]*\r?$', re.MULTILINE)


class _LineFormat(NamedTuple):
    pattern: Pattern    # one group per field, coordinates first
    coordinates: int    # number of coordinates
    expected: str       # description for messages


def with_names_of(path: str, parameters: Parameters) -> Parameters:
    """Adapts default name patterns to the names in an archive of ground truth.

    Args:
        path: zip archive.
        parameters: parameters of the protocol.

    Returns:
        The parameters; with patterns for images of any name if the archive has an entry
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
    """Reads an archive of ground truth; entries with other names are ignored.

    Args:
        path: zip archive.
        parameters: names, format and line ends of the entries.

    Returns:
        Sample id -> regions, in the order of the archive; at least one sample.

    Raises:
        ProtocolError: the archive cannot be read, a line is invalid, or all samples are missing.
    """
    entries = read_archive(path, parameters.GT_SAMPLE_NAME_2_ID, strict=False)
    if not entries:
        raise ProtocolError(f'{path} has no ground truth: no entry is named '
                            f'{parameters.GT_SAMPLE_NAME_2_ID}')
    return {sample_id: parse_ground_truth(entry.text, entry.source, parameters)
            for sample_id, entry in entries.items()}


def read_detections(path: str, parameters: Parameters,
                    ground_truth: Dict[str, GroundTruth]) -> Dict[str, Detections]:
    """Reads an archive of results, which may lack samples.

    Args:
        path: zip archive.
        parameters: names, format and line ends of the entries.
        ground_truth: the ground truth.

    Returns:
        Sample id -> detections, in the order of the archive.

    Raises:
        ProtocolError: the archive cannot be read, an entry is not a sample of the ground truth, a
            line is invalid, or there are too many boxes.
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
    """Parses the regions of a sample.

    Args:
        text: contents of the file.
        source: name of the file in messages.
        parameters: format and line ends.

    Returns:
        The regions in file order.

    Raises:
        ProtocolError: a line is malformed, or its points are in the wrong order.
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
    """Finds the do-not-care regions of a file from the texts after the corners, bool (N,)."""
    of_rctw = [_RCTW.fullmatch(each) for each in texts]
    # A single transcription may look like the columns of RCTW, but not those of a whole file.
    if texts and all(of_rctw):
        return np.array([each.group(1) == '1' or each.group(2) == '###' for each in of_rctw], bool)
    return np.array([each in _DO_NOT_CARE or _MLT_DO_NOT_CARE.fullmatch(each) is not None
                     for each in texts], bool)


def parse_detections(text: str, source: str, parameters: Parameters) -> Detections:
    """Parses the detections of a sample.

    Args:
        text: contents of the file.
        source: name of the file in messages.
        parameters: format, line ends, and whether there are confidences.

    Returns:
        The detections in file order.

    Raises:
        ProtocolError: a line is malformed, its points are in the wrong order, or its confidence
            exceeds 1.
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
    """Returns the fields if all lines are rectangles and none has four points, otherwise []."""
    lines = _lines(text)
    quads = _line_format(False, False, 'transcription').pattern
    if parameters.LTRB or parameters.CRLF or not lines or quads.search(text):
        return []
    rows = _RECTANGLE.findall(text)
    return rows if len(rows) == len(lines) else []


def _rows(text: str, source: str, line_format: _LineFormat) -> List[Tuple[str, ...]]:
    """Returns the fields of all non-empty lines in one scan; finds the first invalid line."""
    rows = line_format.pattern.findall(text)
    lines = _lines(text)
    if len(rows) < len(lines):
        number, line = next(item for item in lines if not line_format.pattern.match(item[1]))
        raise ProtocolError(f'{source}, line {number}: expected {line_format.expected}, found '
                            f'{shown(line.rstrip())}')
    return rows


def _lines(text: str) -> List[Tuple[int, str]]:
    """Lists the number (from 1) and text, with its line end, of all non-empty lines."""
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
    """Raises an error for the first row for which ``wrong``, bool (N,), is True."""
    if wrong.any():
        number, line = _lines(text)[int(wrong.argmax())]
        raise ProtocolError(f'{source}, line {number}: {problem}: {shown(line.rstrip())}')
