"""Result files in the format of ICDAR2015: ``res_<stem>.txt`` and ``results.zip``.

Files are written atomically. In an output directory only files that are recognised as results of an
earlier run are removed.
"""

import contextlib
import glob
import os
import re
import zipfile
from typing import Iterator, List, Optional, Sequence

import numpy as np

from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import logger

ARCHIVE_NAME = 'results.zip'
_RESULT_PATTERN = 'res_*.txt'
_RESULT_NAME = re.compile(r'res_(.+)\.txt')
# Names of ICDAR2015; scoring rejects an archive with any other entry.
_NUMBERED_NAME = re.compile(r'res_img_([0-9]+)\.txt')
# A fixed date makes archives reproducible, and files dated before 1980 can be stored.
_ENTRY_DATE = (1980, 1, 1, 0, 0, 0)
_SCORE = r'(,[01]\.\d{4})?'
_BOX_LINE = re.compile(rf'(-?\d+(,-?\d+){{7}}){_SCORE}')
_POLYGON_LINE = re.compile(rf'-?\d+,-?\d+(,-?\d+,-?\d+){{2,}}{_SCORE}')


class ResultError(PSENetError):
    """A result file or output directory cannot be read, written or used."""


def result_path(output_dir: str, stem: str) -> str:
    """Returns the path of an image's result file; ``stem`` is its name without extension."""
    return os.path.join(output_dir, f'res_{stem}.txt')


def write_result(output_dir: str, stem: str, boxes: Sequence[np.ndarray],
                 scores: Optional[np.ndarray] = None) -> str:
    """Writes the regions of an image, one per line: ``x1,y1,x2,y2,x3,y3,x4,y4`` and CRLF.

    Args:
        output_dir: an existing directory.
        stem: the image's name without extension.
        boxes: int (N, 4, 2), or polygons (P, 2), x, y in pixels of the image, clockwise; may be
            empty.
        scores: float (N,), 0..1, to append to the lines; None for no scores.

    Returns:
        Path of the file.

    Raises:
        ResultError: it cannot be written.
    """
    path = result_path(output_dir, stem)
    with replacing(path) as temporary, open(temporary, 'wb') as file:
        file.write(format_result(boxes, scores))
    return path


def format_result(boxes: Sequence[np.ndarray], scores: Optional[np.ndarray] = None) -> bytes:
    """Formats regions as in ``write_result``."""
    lines = [','.join(map(str, box.ravel().tolist())) for box in boxes]
    if scores is not None:
        lines = [f'{line},{score:.4f}' for line, score in zip(lines, scores)]
    return ''.join(line + '\r\n' for line in lines).encode('ascii')


def read_result(path: str) -> np.ndarray:
    """Reads a result file.

    Args:
        path: file with one box per line, with or without a score; lines end in CRLF or LF.

    Returns:
        int32 (N, 4, 2), x, y in pixels of the image.

    Raises:
        ResultError: the file cannot be read, or a line is not a box.
    """
    try:
        with open(path, encoding='ascii') as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f'cannot read the result file {path}: {error}') from None
    boxes = []
    for number, line in enumerate(lines, start=1):
        found = _BOX_LINE.fullmatch(line)
        if not found:
            raise ResultError(f'{path}, line {number} must be 8 integers separated by commas, '
                              f'not {line[:80]!r}')
        boxes.append([int(value) for value in found.group(1).split(',')])
    return np.array(boxes, np.int32).reshape(-1, 4, 2)


def prepare_output(output_dir: str) -> int:
    """Creates the output directory and removes the results of an earlier run.

    Args:
        output_dir: output directory; created with its parents if missing.

    Returns:
        The number of removed files.

    Raises:
        ResultError: it cannot be created, or has a results.zip that is not an archive of results.
    """
    make_folder(output_dir)
    results = glob.glob(os.path.join(glob.escape(output_dir), _RESULT_PATTERN))
    stale = _own_archive(output_dir) + [path for path in results if _is_result(path)]
    with _named(output_dir):
        for path in stale:
            os.remove(path)
    return len(stale)


def make_folder(output_dir: str) -> None:
    """Creates ``--output_dir`` and its parents if they do not exist.

    Raises:
        ResultError: it cannot be created.
    """
    with _named(output_dir):
        os.makedirs(output_dir, exist_ok=True)


@contextlib.contextmanager
def _named(output_dir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultError(f'cannot write to the directory --output_dir={output_dir}: '
                          f'{error.strerror or error}') from None


def write_archive(output_dir: str, name_pattern: Optional[str] = None) -> str:
    """Packs results into ``results.zip`` for scoring.

    Args:
        output_dir: directory with the result files and for the archive.
        name_pattern: regular expression of the names to pack. None packs ``res_img_<number>.txt``
            if such results exist, otherwise all results.

    Returns:
        Path of the archive; its entries are sorted by number. A warning lists skipped results.

    Raises:
        ResultError: a result is missing, or the archive cannot be written.
    """
    # Other files named res_... are not packed.
    found = [name for name in _names(output_dir) if _NUMBERED_NAME.fullmatch(name) or (
        _RESULT_NAME.fullmatch(name) and _is_result(os.path.join(output_dir, name)))]
    names = [name for name in found if _NUMBERED_NAME.fullmatch(name)] or found
    if name_pattern is not None:
        names = [name for name in found if re.fullmatch(name_pattern, name)]
    if not names:
        raise ResultError(f'{output_dir} has no res_img_<number>.txt or res_<image>.txt to score')
    if len(names) < len(found):
        others = sorted(set(found) - set(names))
        logger.warning('%d results are skipped, as scoring accepts only img_<number>: %s first',
                       len(others), others[0])
    numbers = {name: _NUMBERED_NAME.fullmatch(name) for name in names}
    names.sort(key=lambda name: (int(numbers[name][1]) if numbers[name] else -1, name))
    _own_archive(output_dir)
    archive_path = os.path.join(output_dir, ARCHIVE_NAME)
    with replacing(archive_path) as temporary, zipfile.ZipFile(
            temporary, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with open(os.path.join(output_dir, name), 'rb') as file:
                archive.writestr(zipfile.ZipInfo(name, _ENTRY_DATE), file.read(),
                                 zipfile.ZIP_DEFLATED)
    return archive_path


def _names(output_dir: str) -> List[str]:
    try:
        return os.listdir(output_dir)
    except OSError as error:
        raise ResultError(f'cannot list the directory {output_dir}: '
                          f'{error.strerror or error}') from None


def _is_result(path: str) -> bool:
    """Returns True if a file contains only regions; other files named res_... are kept."""
    try:
        with open(path, encoding='ascii') as file:
            return all(map(_POLYGON_LINE.fullmatch, file.read().splitlines()))
    except (OSError, UnicodeDecodeError):
        return False


def _own_archive(output_dir: str) -> List[str]:
    path = os.path.join(output_dir, ARCHIVE_NAME)
    if not os.path.lexists(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            foreign = [name for name in archive.namelist() if not _RESULT_NAME.fullmatch(name)]
    except (OSError, zipfile.BadZipFile):
        foreign = ['no zip archive']
    if foreign:
        raise ResultError(f'{path} is not an archive of results ({foreign[0]}); move it away or '
                          'choose another output directory')
    return [path]
