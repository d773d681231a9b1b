"""Zip archives: reading untrusted ones in memory with limits, and writing reproducible ones.

Names inside an archive are only compared, never used as paths. The declared sizes are limited, and
no more than the declared size is decompressed, so that wrong declarations do no harm.
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
# Exceptions that zipfile raises for damaged archives, besides BadZipFile.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
           RuntimeError, OverflowError, LookupError)
logger = logging.getLogger('psenet')
# macOS adds a directory of its own and hidden files to archives.
_MACOS_DIRECTORY = '__MACOSX/'
_DIRECTORY = re.compile(r'(?!\.{1,2}/)[^/\\]+/')
_REPORT_NAMES = ('method', '.', '..')


class Entry(NamedTuple):
    """A sample's file: ``source`` is archive and entry, for messages; ``text`` is decoded."""

    source: str
    text: str


def read_archive(path: str, name_pattern: str, strict: bool) -> Dict[str, Entry]:
    """Reads the samples in a zip archive.

    Hidden files, files of macOS, and a common directory of all entries are ignored with a warning.

    Args:
        path: the archive.
        name_pattern: regular expression of the full name of an entry; group 1 is the sample id.
        strict: whether an entry with another name is an error; otherwise it is ignored.

    Returns:
        Sample id -> entry, in the order of the archive.

    Raises:
        ProtocolError: the archive is missing, damaged or too large, or an entry has a wrong name,
            is a duplicate, encrypted, a link, too large, or not UTF-8.
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
        raise ProtocolError(f'{path} is not a valid zip archive ({_detail(error)})') from None


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        problem = 'is not a file' if os.path.exists(path) else 'does not exist'
        raise ProtocolError(f'the archive {path} {problem}')
    if os.path.getsize(path) > MAX_ARCHIVE_BYTES:
        raise ProtocolError(f'{path} exceeds the limit of {MAX_ARCHIVE_BYTES >> 20} MiB for '
                            'archives')


def _source(path: str, info: zipfile.ZipInfo) -> str:
    return f'{path}, entry {shown(info.filename)}'


def list_names(path: str) -> List[str]:
    """Lists the names of an archive's entries, without what read_archive ignores.

    Args, Raises: as read_archive.
    """
    _check_file(path)
    with _open(path) as archive:
        return [name for name, _ in _named_entries(archive, path, tell=False)]


def _named_entries(archive: zipfile.ZipFile, path: str,
                   tell: bool = True) -> List[Tuple[str, zipfile.ZipInfo]]:
    """Lists the entries with their names, without what read_archive ignores."""
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise ProtocolError(f'{path} has {len(infos)} entries, more than the {MAX_ENTRIES} allowed')
    kept = [info for info in infos if not info.filename.startswith(_MACOS_DIRECTORY)
            and not info.filename.rsplit('/', 1)[-1].startswith('.')]
    if tell and len(kept) < len(infos):
        logger.warning('%s: ignoring %d hidden files and files of macOS', path,
                       len(infos) - len(kept))
    directory = _DIRECTORY.match(kept[0].filename) if kept else None
    if not directory or not all(info.filename.startswith(directory.group()) for info in kept):
        return [(info.filename, info) for info in kept]
    named = [(info.filename[directory.end():], info) for info in kept]
    named = [(name, info) for name, info in named if name]
    if not named:
        return [(info.filename, info) for info in kept]
    if tell:
        logger.warning('%s: ignoring the common directory %s of all entries', path,
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
                raise ProtocolError(f'{_source(path, info)}: duplicate sample {sample_id}')
            _check_entry(info, _source(path, info))
            chosen[sample_id] = info
        elif strict:
            raise ProtocolError(f'{_source(path, info)}: the name does not match '
                                f'{pattern.pattern}; zip only the result files, no directory')
    total = sum(info.file_size for info in chosen.values())
    if total > MAX_ARCHIVE_BYTES:
        raise ProtocolError(f'{path} unpacks to {total} bytes, more than the '
                            f'{MAX_ARCHIVE_BYTES >> 20} MiB allowed')
    return chosen


def _sample_id(sample_id: str, source: str) -> str:
    """Rejects ids that cannot name an entry of the report; the default patterns yield digits."""
    if (not sample_id or sample_id in _REPORT_NAMES or not sample_id.isprintable()
            or '/' in sample_id or '\\' in sample_id):
        raise ProtocolError(f'{source}: {shown(str(sample_id))} is not a valid sample id')
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
        raise ProtocolError(f'{source}: {info.file_size} bytes exceed the limit of '
                            f'{MAX_ENTRY_BYTES >> 20} MiB for an entry')


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Entry:
    try:
        with archive.open(info) as file:
            # A plain read() would decompress everything, regardless of the declared size.
            data = file.read(info.file_size + 1)
    except _DAMAGE as error:
        raise ProtocolError(f'{source}: damaged ({_detail(error)})') from None
    return Entry(source, decode(data, source))


def _detail(error: Exception) -> str:
    """Formats an exception of the library without the raw bytes that some messages quote."""
    return shown(str(error) or type(error).__name__)


def decode(data: bytes, source: str) -> str:
    """Decodes a sample's file.

    Args:
        data: UTF-8 with or without byte order mark.
        source: name of the file in messages.

    Returns:
        The text without the byte order mark.

    Raises:
        ProtocolError: the bytes are not UTF-8; the message names the line.
    """
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise ProtocolError(f'{source}, line {line}: not UTF-8 ({error.reason}); save the file as '
                            'UTF-8') from None


def write_archive(path: str, entries: Iterable[Tuple[str, bytes]]) -> None:
    """Writes a reproducible zip archive atomically.

    Args:
        path: the archive; an earlier one is replaced.
        entries: names and contents, in order.

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
    """Creates a reproducible header; entries are not compressed, as zlib versions differ."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info
