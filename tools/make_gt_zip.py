"""Packs a directory of ground-truth files into a gt.zip for evaluation/script.py.

    python -m tools.make_gt_zip --folder=./ocr/ch4_test_gt --out=./evaluation/gt.zip

The directory contains either ``gt_<image>.txt`` or ``<image>.txt`` files in the format of
ICDAR2015, ICDAR2013 or MLT; files of other types are ignored. Every line is checked. Fractional
coordinates are rounded with a warning. The same files give the same bytes.
"""

import os
import re
from typing import Dict, List, Tuple

from absl import flags

from evaluation.archive import decode, write_archive
from evaluation.parameters import ANY_GT_NAME, DEFAULT_PARAMETERS, ProtocolError
from evaluation.protocol import parse_ground_truth
from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger

# The coordinates at the beginning of a line.
_NUMBER = r'[ \t]*(-?[0-9]{1,7}(?:\.[0-9]*)?)[ \t]*'
_FRACTIONS = re.compile(
    rf'^{_NUMBER}(?:,{_NUMBER}){{7}}(?=,)|^{_NUMBER}(?:,{_NUMBER}){{3}}(?=,|\r?$)', re.MULTILINE)


def make_gt_zip(directory: str, out_path: str, overwrite: bool = False) -> int:
    """Packs ground-truth files, sorted by the numbers in their names.

    Args:
        directory: contains ``gt_<image>.txt`` or ``<image>.txt`` files, UTF-8 with or without byte
            order mark.
        out_path: archive to write, in an existing directory.
        overwrite: whether to replace an existing archive.

    Returns:
        The number of files in the archive.

    Raises:
        PSENetError: the directory has no such files or both kinds, a line is invalid, or the output
            exists or cannot be written.
    """
    if os.path.lexists(out_path) and not overwrite:
        raise PSENetError(f'{out_path} exists already; choose another --out, or replace it with '
                          '--overwrite')
    rounded: Dict[str, int] = {}
    entries = [(entry, _read_checked(os.path.join(directory, name), rounded))
               for entry, name in _names(directory)]
    if rounded:
        logger.warning('%d fractional coordinates in %d files are rounded, %s first',
                       sum(rounded.values()), len(rounded), next(iter(rounded)))
    try:
        write_archive(out_path, entries)
    except OSError as error:
        raise PSENetError(f'cannot write {out_path}: {error.strerror}') from None
    return len(entries)


def _names(directory: str) -> List[Tuple[str, str]]:
    """Lists the names in the archive and in the directory."""
    try:
        names = sorted(name for name in os.listdir(directory)
                       if name.lower().endswith('.txt') and not name.startswith('.'))
    except OSError as error:
        raise PSENetError(f'cannot list the directory {directory}: {error.strerror}') from None
    if not names:
        raise PSENetError(f'{directory} holds no gt_<image>.txt file')
    prefixed = [name for name in names if re.fullmatch(ANY_GT_NAME, name)]
    if prefixed and len(prefixed) < len(names):
        other = next(name for name in names if name not in prefixed)
        raise PSENetError(f'{os.path.join(directory, other)} is not named gt_<image>.txt, as '
                          f'{prefixed[0]} is; rename it or move it away')
    entries = [(name if prefixed else f'gt_{os.path.splitext(name)[0]}.txt', name)
               for name in names]

    def by_number(entry: Tuple[str, str]) -> Tuple[str, int, str]:
        stem, number = re.fullmatch(r'(.*?)([0-9]*)\.txt', entry[0]).groups()
        return stem, int(number or -1), entry[0]
    return sorted(entries, key=by_number)


def _read_checked(path: str, rounded: Dict[str, int]) -> bytes:
    """Reads a file, rounds its coordinates, and checks every line."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
        text = decode(data, path)
        changed = _FRACTIONS.sub(lambda found: _round(found.group(), path, rounded), text)
        parse_ground_truth(changed, path, DEFAULT_PARAMETERS)
    except OSError as error:
        raise PSENetError(f'cannot read {path}: {error.strerror}') from None
    except ProtocolError as error:
        raise PSENetError(str(error)) from None
    return data if changed == text else changed.encode()


def _round(numbers: str, path: str, rounded: Dict[str, int]) -> str:
    """Rounds numbers to integers, halves away from zero, and counts those with a fraction."""
    fields = numbers.split(',')
    count = sum('.' in field for field in fields)
    if not count:
        return numbers
    rounded[path] = rounded.get(path, 0) + count
    values = [float(field) for field in fields]
    return ','.join(str(int(value + (0.5 if value >= 0 else -0.5))) for value in values)


def main(_: List[str]) -> None:
    """Packs the archive that the flags describe."""
    values = flags.FLAGS
    if not values.folder:
        raise PSENetError('--folder is missing; give the directory with the gt_<image>.txt files')
    count = make_gt_zip(values.folder, values.out, values.overwrite)
    logger.info('packed %d files into %s', count, values.out)


if __name__ == '__main__':
    group = cli.group('files')
    cli.define_path('folder', None, 'Directory with gt_<image>.txt or <image>.txt files.', **group)
    cli.define_path('out', './gt.zip', 'Archive to write.', **group)
    flags.DEFINE_boolean('overwrite', False, 'Replace an existing archive.', **group)
    cli.run(main, __doc__)
