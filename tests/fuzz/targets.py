"""What is tried on bytes of any kind: nothing but the error that is documented may come of them."""

import os
import re
import tempfile
from typing import Callable, Dict, List, NamedTuple

import numpy as np

from evaluation.archive import decode
from evaluation.parameters import DEFAULT_PARAMETERS, ProtocolError, parse_parameters
from evaluation.protocol import (
    GroundTruth,
    parse_detections,
    parse_ground_truth,
    read_detections,
)
from tests.fuzz.seeds import ANNOTATIONS, ARCHIVES, FORMATS, LINES, PARAMETERS
from utils.data_provider import formats
from utils.data_provider.annotation import (
    AnnotationError,
    read_icdar,
    read_icdar2013,
    read_icdar2015,
)

_READERS = (read_icdar, read_icdar2013, read_icdar2015)
_FORMATS = ((formats.read_mlt, '.txt'), (formats.read_ctw1500, '.txt'),
            (formats.read_ctw1500, '.xml'), (formats.read_total_text, '.txt'),
            (formats.read_total_text, '.mat'), (formats.read_msra_td500, '.gt'),
            (formats.read_labelme, '.json'), (formats.read_coco, '.json'),
            (formats.read_art, '.json'), (formats.read_ppocrlabel, '.txt'))
_REGIONS = {'1': GroundTruth(np.array([[[0, 0], [9, 0], [9, 9], [0, 9]]]), np.zeros(1, bool))}
_SCRATCH = os.path.join(tempfile.gettempdir(), f'fuzz-{os.getpid()}')


class Target(NamedTuple):
    """``try_input`` raises where something else comes of the bytes than it may."""

    try_input: Callable[[bytes], None]
    seeds: List[bytes]


def _file_of(data: bytes) -> str:
    with open(_SCRATCH, 'wb') as file:
        file.write(data)
    return _SCRATCH


def try_annotation(data: bytes) -> None:
    """Reads bytes as an annotation file; the first one chooses the dataset."""
    path = _file_of(data[1:])
    try:
        annotation = _READERS[(data[0] if data else 0) % len(_READERS)](path)
    except AnnotationError as error:
        _check_sentence(error, re.escape(path) + r':[1-9]\d*: ')
        return
    assert len(annotation.polygons) == len(annotation.ignore_tags) == len(annotation.lines)
    assert all(polygon.shape == (4, 2) and np.isfinite(polygon).all()
               for polygon in annotation.polygons)


def try_format(data: bytes) -> None:
    """Reads bytes as a label file of another data set; the first one chooses it."""
    read, suffix = _FORMATS[(data[0] if data else 0) % len(_FORMATS)]
    path = _SCRATCH + suffix
    with open(path, 'wb') as file:
        file.write(data[1:])
    try:
        found = read(path)
    except AnnotationError as error:
        _check_sentence(error, re.escape(path))
        return
    for annotation in found.values() if isinstance(found, dict) else [found]:
        assert len(annotation.polygons) == len(annotation.ignore_tags) == len(annotation.lines)
        for polygon in annotation.polygons:
            assert polygon.shape[1:] == (2,)
            assert np.isfinite(polygon).all()
            if len(polygon) > 2:
                formats.repair_polygon(polygon)


def try_archive(data: bytes) -> None:
    """Reads bytes as an archive of results."""
    path = _file_of(data)
    try:
        found = read_detections(path, DEFAULT_PARAMETERS, _REGIONS)
    except ProtocolError as error:
        _check_sentence(error, '.*' + re.escape(path))
        return
    assert set(found) <= set(_REGIONS)


def try_lines(data: bytes) -> None:
    """Reads bytes as an entry of an archive; the bits of the first one are the parameters."""
    flags = data[0] if data else 0
    parameters = DEFAULT_PARAMETERS._replace(LTRB=bool(flags & 1), CRLF=bool(flags & 2),
                                             CONFIDENCES=bool(flags & 4))
    parse = parse_ground_truth if flags & 8 else parse_detections
    try:
        sample = parse(decode(data[1:], 'an entry'), 'an entry', parameters)
    except ProtocolError as error:
        _check_sentence(error, r'an entry, line [1-9]\d*: ')
        return
    assert sample.quads.shape == (len(sample.quads), 4, 2)
    assert len(sample[1]) == len(sample.quads)


def try_parameters(data: bytes) -> None:
    """Reads bytes as the value of -p."""
    try:
        parse_parameters(data.decode('utf-8', 'surrogateescape'))
    except ProtocolError as error:
        _check_sentence(error, '-p')


def _check_sentence(error: Exception, beginning: str) -> None:
    assert re.match(beginning, str(error)), str(error)
    assert '\n' not in str(error)
    assert len(str(error)) < 1000


TARGETS: Dict[str, Target] = {
    'annotations': Target(try_annotation, ANNOTATIONS),
    'formats': Target(try_format, FORMATS),
    'archives': Target(try_archive, ARCHIVES),
    'result lines': Target(try_lines, LINES),
    'parameters': Target(try_parameters, PARAMETERS),
}
