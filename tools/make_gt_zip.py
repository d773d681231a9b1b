"""Packs a folder of ground-truth files into the gt.zip that evaluation/script.py scores against.

    python tools/make_gt_zip.py --folder=./ocr/ch4_test_gt --out=./evaluation/gt.zip

The folder holds ``gt_img_<number>.txt`` files in the official form; other kinds of files may lie
beside them, other text files may not. Every line is checked first. The same files give the same
bytes.
"""

import os
import re
import sys
from typing import List, Tuple

from absl import flags

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from evaluation.archive import decode, write_archive
from evaluation.errors import ProtocolError
from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import parse_ground_truth
from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger


def make_gt_zip(folder: str, out_path: str, overwrite: bool = False) -> int:
    """Packs ground-truth files, in the order of their numbers.

    Args:
        folder: holds ``gt_img_<number>.txt`` files, UTF-8 with or without byte-order mark.
        out_path: the archive to write; its folder exists.
        overwrite: whether an archive that is there already is replaced.

    Returns:
        How many files it holds.

    Raises:
        PSENetError: the folder holds no such file, or a text file of another name; a line is not of
            the official form; or the archive is there already or cannot be written.
    """
    if os.path.lexists(out_path) and not overwrite:
        raise PSENetError(f'{out_path} exists already; choose another --out, or replace it with '
                          '--overwrite')
    entries = [(name, _read_checked(os.path.join(folder, name))) for name in _names(folder)]
    _write(out_path, entries)
    return len(entries)


def _names(folder: str) -> List[str]:
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith('.txt')]
    except OSError as error:
        raise PSENetError(f'cannot list the folder {folder}: {error.strerror}') from None
    if not names:
        raise PSENetError(f'{folder} holds no gt_img_<number>.txt file')
    return [name for _, name in sorted((_number(folder, name), name) for name in names)]


def _number(folder: str, name: str) -> int:
    found = re.fullmatch(DEFAULT_PARAMETERS.GT_SAMPLE_NAME_2_ID, name)
    if not found:
        raise PSENetError(f'{os.path.join(folder, name)} is not named gt_img_<number>.txt; rename '
                          'it or move it away')
    return int(found.group(1))


def _read_checked(path: str) -> bytes:
    """Contents of a file, every line of which scoring will accept."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
        parse_ground_truth(decode(data, path), path, DEFAULT_PARAMETERS)
    except OSError as error:
        raise PSENetError(f'cannot read {path}: {error.strerror}') from None
    except ProtocolError as error:
        raise PSENetError(str(error)) from None
    return data


def _write(path: str, entries: List[Tuple[str, bytes]]) -> None:
    try:
        write_archive(path, entries)
    except OSError as error:
        raise PSENetError(f'cannot write {path}: {error.strerror}') from None


def main(_: List[str]) -> None:
    """Makes the archive that the flags describe."""
    values = flags.FLAGS
    if not values.folder:
        raise PSENetError('--folder is needed: the folder with the gt_img_<number>.txt files')
    count = make_gt_zip(values.folder, values.out, values.overwrite)
    logger.info('packed %d files into %s', count, values.out)


if __name__ == '__main__':
    group = cli.group('files')
    cli.define_path('folder', None, 'Folder with gt_img_<number>.txt files.', **group)
    cli.define_path('out', './gt.zip', 'Archive to write.', **group)
    flags.DEFINE_boolean('overwrite', False, 'Replace an archive that is there.', **group)
    cli.run(main, __doc__)
