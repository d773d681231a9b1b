"""Zip archives: reading a stranger's with nothing extracted and bounded memory, writing our own.

Names inside an archive are only compared, never used as paths. Sizes are limited by what the
archive declares, and no more than that is decompressed, so that an archive that lies about its
contents costs no more than one that does not.
"""

import contextlib
import logging
import os
import re
import stat
import struct
import zipfile
import zlib
from typing import Dict, Iterable, List, NamedTuple, Pattern, Tuple

from evaluation.parameters import ProtocolError, shown

# ICDAR2015's own archives hold 500 entries of at most 4 KB.
MAX_ENTRIES = 100000
MAX_ENTRY_BYTES = 8 << 20
MAX_ARCHIVE_BYTES = 64 << 20

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# What zipfile lets through of a damaged archive, beside its own BadZipFile.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
           RuntimeError, OverflowError, LookupError)
logger = logging.getLogger('psenet')
# What macOS adds to an archive: a directory of its own, and hidden files.
_MACOS_DIRECTORY = '__MACOSX/'
_DIRECTORY = re.compile(r'(?!\.{1,2}/)[^/\\]+/')
_REPORT_NAMES = ('method', '.', '..')


class Entry(NamedTuple):
    """A sample's file: ``source`` names archive and entry for messages, ``text`` is decoded."""

    source: str
    text: str


def read_archive(path: str, name_pattern: str, strict: bool) -> Dict[str, Entry]:
    """Reads the entries of a zip archive that are samples.

    Hidden files, what macOS adds, and one directory that all entries lie in are passed over; a
    message says so.

    Args:
        path: the archive.
        name_pattern: regular expression of the whole name of an entry; group 1 is the sample's id.
        strict: an entry of any other name is an error, instead of being left out.

    Returns:
        Entries by id of the sample, in the order of the archive.

    Raises:
        ProtocolError: the archive is missing, damaged or too large, or an entry is of the
            wrong name, a duplicate, encrypted, a link, too large, or not UTF-8.
    """
    _check_file(path)
    with _open(path) as archive:
        chosen = _choose(_named_entries(archive, path), path, re.compile(name_pattern), strict)
        return {sample_id: _read_entry(archive, info, _source(path, info))
                for sample_id, info in chosen.items()}


def _open(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise ProtocolError(f'{path} is not a zip archive that can be read '
                            f'({_detail(error)})') from None


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        problem = 'is not a file' if os.path.exists(path) else 'does not exist'
        raise ProtocolError(f'the archive {path} {problem}')
    if os.path.getsize(path) > MAX_ARCHIVE_BYTES:
        raise ProtocolError(f'{path} is larger than the {MAX_ARCHIVE_BYTES >> 20} MiB that an '
                            'archive may have')


def _source(path: str, info: zipfile.ZipInfo) -> str:
    return f'{path}, entry {shown(info.filename)}'


def list_names(path: str) -> List[str]:
    """Lists the names of an archive's entries, as read_archive compares them.

    Args, Raises: as read_archive.
    """
    _check_file(path)
    with _open(path) as archive:
        return [name for name, _ in _named_entries(archive, path, tell=False)]


def _named_entries(archive: zipfile.ZipFile, path: str,
                   tell: bool = True) -> List[Tuple[str, zipfile.ZipInfo]]:
    """The entries and their names, without what read_archive passes over."""
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise ProtocolError(f'{path} holds {len(infos)} entries, more than the {MAX_ENTRIES} '
                            'allowed')
    kept = [info for info in infos if not info.filename.startswith(_MACOS_DIRECTORY)
            and not info.filename.rsplit('/', 1)[-1].startswith('.')]
    if tell and len(kept) < len(infos):
        logger.warning('%s: %d hidden files and files of macOS are passed over', path,
                       len(infos) - len(kept))
    directory = _DIRECTORY.match(kept[0].filename) if kept else None
    if not directory or not all(info.filename.startswith(directory.group()) for info in kept):
        return [(info.filename, info) for info in kept]
    named = [(info.filename[directory.end():], info) for info in kept]
    named = [(name, info) for name, info in named if name]
    if not named:
        return [(info.filename, info) for info in kept]
    if tell:
        logger.warning('%s: all entries lie in the directory %s, which is passed over', path,
                       shown(directory.group()))
    return named


def _choose(entries: List[Tuple[str, zipfile.ZipInfo]], path: str, pattern: Pattern,
            strict: bool) -> Dict[str, zipfile.ZipInfo]:
    chosen = {}
    for name, info in entries:
        found = pattern.fullmatch(name)
        if found:
            sample_id = _sample_id(found.group(1), _source(path, info))
            if sample_id in chosen:
                raise ProtocolError(f'{_source(path, info)}: sample {sample_id} is there already')
            _check_entry(info, _source(path, info))
            chosen[sample_id] = info
        elif strict:
            raise ProtocolError(f'{_source(path, info)}: the name does not match '
                                f'{pattern.pattern}; zip the result files alone, without a folder')
    _check_total(chosen, path)
    return chosen


def _sample_id(sample_id: str, source: str) -> str:
    """Refuses an id that cannot name an entry of the report; the default patterns yield digits."""
    if (not sample_id or sample_id in _REPORT_NAMES or not sample_id.isprintable()
            or '/' in sample_id or '\\' in sample_id):
        raise ProtocolError(f'{source}: {shown(str(sample_id))} cannot be the id of a sample')
    return sample_id


def _check_entry(info: zipfile.ZipInfo, source: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise ProtocolError(f'{source}: encrypted entries cannot be read')
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ProtocolError(f'{source}: links are not allowed')
    if info.compress_type not in _METHODS:
        raise ProtocolError(f'{source}: compression method {info.compress_type} is not allowed; '
                            'use plain zip (deflate)')
    if info.file_size > MAX_ENTRY_BYTES:
        raise ProtocolError(f'{source}: {info.file_size} bytes are more than the '
                            f'{MAX_ENTRY_BYTES >> 20} MiB that an entry may have')


def _check_total(chosen: Dict[str, zipfile.ZipInfo], path: str) -> None:
    total = sum(info.file_size for info in chosen.values())
    if total > MAX_ARCHIVE_BYTES:
        raise ProtocolError(f'{path} unpacks to {total} bytes, more than the '
                            f'{MAX_ARCHIVE_BYTES >> 20} MiB allowed')


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Entry:
    try:
        with archive.open(info) as file:
            # A bare read() would decompress all there is, whatever size the header declares.
            data = file.read(info.file_size + 1)
    except _DAMAGE as error:
        raise ProtocolError(f'{source}: damaged ({_detail(error)})') from None
    return Entry(source, decode(data, source))


def _detail(error: Exception) -> str:
    """The library's words, without the raw bytes that some of its messages quote at length."""
    return shown(str(error) or type(error).__name__)


def decode(data: bytes, source: str) -> str:
    """Decodes a sample's file.

    Args:
        data: UTF-8 with or without byte-order mark.
        source: how messages name the file.

    Returns:
        The text, without the mark.

    Raises:
        ProtocolError: the bytes are not UTF-8; names the line.
    """
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise ProtocolError(f'{source}, line {line}: not UTF-8 ({error.reason}); save the file as '
                            'UTF-8') from None


def write_archive(path: str, entries: Iterable[Tuple[str, bytes]]) -> None:
    """Writes a zip archive that depends on its entries alone; it appears complete or not at all.

    Args:
        path: the archive; an earlier one is replaced.
        entries: names and contents, in the order in which they are to stand.

    Raises:
        OSError: it cannot be written.
    """
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        with zipfile.ZipFile(temporary, 'w') as archive:
            for name, data in entries:
                archive.writestr(_entry_info(name), data)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def _entry_info(name: str) -> zipfile.ZipInfo:
    """A header without clock or umask; stored, as zlib's versions compress differently."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info
