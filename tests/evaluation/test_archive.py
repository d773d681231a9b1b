"""Archives of strangers, and our own."""

import contextlib
import io
import os
import random
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from evaluation import archive
from evaluation.archive import decode, list_names, logger, read_archive, write_archive
from evaluation.parameters import ProtocolError

PATTERN = r'res_img_([0-9]+)\.txt'


def refusal(path, strict=True, pattern=PATTERN):
    with pytest.raises(ProtocolError) as error:
        read_archive(path, pattern, strict)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)
    return str(error.value)


def with_header(path, make_info, content='x'):
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr(make_info(zipfile.ZipInfo('res_img_1.txt')), content)
    return str(path)


def test_entries_in_the_order_of_the_archive(make_zip):
    path = make_zip('a.zip', {'res_img_10.txt': 'ten', 'res_img_2.txt': b'\xef\xbb\xbftwo'})
    entries = read_archive(path, PATTERN, strict=True)
    assert list(entries) == ['10', '2']
    assert entries['2'].text == 'two'
    assert entries['2'].source == path + ", entry 'res_img_2.txt'"


def test_an_archive_without_entries_is_read(make_zip):
    assert read_archive(make_zip('a.zip', {}), PATTERN, strict=True) == {}


def test_other_names_are_left_out_unless_strict(make_zip):
    path = make_zip('a.zip', {'readme.md': '', 'res_img_1.txt': 'one', 'sub/res_img_2.txt': ''})
    assert list(read_archive(path, PATTERN, strict=False)) == ['1']
    assert "entry 'readme.md': the name does not match" in refusal(path)


@pytest.mark.parametrize('name', [
    '../res_img_1.txt', '/res_img_1.txt', 'a/b/res_img_1.txt', 'res_img_1.txt.bak',
    'res_img_1_txt', 'res_img_.txt', 'res_img_-1.txt', 'Res_img_1.txt', 'res_img_1.txt\n',
    'xres_img_1.txt', 'res_img_1.TXT', 'res_img_\u0661.txt', 'res_img_1.txt/'])
def test_names_that_almost_match(make_zip, name):
    assert 'the name does not match' in refusal(make_zip('a.zip', {name: ''}))


def test_what_archivers_add_is_passed_over_with_a_word(make_zip, caplog):
    path = make_zip('a.zip', {
        'output/': '', 'output/res_img_1.txt': 'one', 'output/res_img_2.txt': 'two',
        '__MACOSX/output/._res_img_1.txt': b'\0', 'output/.DS_Store': b'\0'})
    logger.addHandler(caplog.handler)
    try:
        entries = read_archive(path, PATTERN, strict=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert {name: entry.text for name, entry in entries.items()} == {'1': 'one', '2': 'two'}
    assert 'ignoring 2 hidden files and files of macOS' in caplog.text
    assert "ignoring the common directory 'output/' of all entries" in caplog.text
    assert list_names(path) == ['res_img_1.txt', 'res_img_2.txt']


def test_two_directories_are_no_common_one(make_zip):
    path = make_zip('a.zip', {'a/res_img_1.txt': '', 'b/res_img_2.txt': ''})
    assert 'the name does not match' in refusal(path)


def test_duplicate_names(tmp_path):
    path = str(tmp_path / 'a.zip')
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr('res_img_1.txt', 'first')
        with pytest.warns(UserWarning, match='Duplicate name'):
            target.writestr('res_img_1.txt', 'second')
    assert "entry 'res_img_1.txt': duplicate sample 1" in refusal(path)


def test_one_id_for_two_names(make_zip):
    path = make_zip('a.zip', {'a1.txt': '', 'b1.txt': ''})
    assert 'duplicate sample 1' in refusal(path, pattern=r'[ab]([0-9])\.txt')


@pytest.mark.parametrize('name', ['../../x.txt', 'a\\b.txt', 'method.txt'])
def test_ids_that_cannot_name_a_report(make_zip, name):
    path = make_zip('a.zip', {name: ''})
    assert 'is not a valid sample id' in refusal(path, pattern=r'(.*)\.txt')


def test_missing_archive(tmp_path):
    assert 'does not exist' in refusal(str(tmp_path / 'none.zip'))


def test_folder_instead_of_archive(tmp_path):
    assert 'is not a file' in refusal(str(tmp_path))


@pytest.mark.parametrize('content', [b'', b'no zip at all', b'PK\x03\x04', b'\0' * 5000])
def test_not_a_zip(tmp_path, content):
    path = tmp_path / 'a.zip'
    path.write_bytes(content)
    assert 'is not a valid zip archive' in refusal(str(path))


def test_truncated(make_zip):
    path = make_zip('a.zip', {'res_img_1.txt': os.urandom(1000)})
    with open(path, 'r+b') as file:
        file.truncate(600)
    assert 'is not a valid zip archive' in refusal(path)


def test_damaged_entry_is_named(make_zip):
    path = make_zip('a.zip', {'res_img_1.txt': 'fine', 'res_img_2.txt': 'damaged' * 9})
    data = bytearray(Path(path).read_bytes())
    data[data.index(b'res_img_2.txt') + len('res_img_2.txt') + 3] ^= 0xff
    Path(path).write_bytes(data)
    assert "entry 'res_img_2.txt': damaged" in refusal(path)


def test_encrypted(make_zip):
    path = make_zip('a.zip', {'res_img_1.txt': 'x'})
    data = bytearray(Path(path).read_bytes())
    for signature, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        data[data.index(signature) + offset] |= 1
    Path(path).write_bytes(data)
    assert "entry 'res_img_1.txt': encrypted" in refusal(path)


def test_link(tmp_path):
    def link(info):
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info
    path = with_header(tmp_path / 'a.zip', link, '/etc/passwd')
    assert "entry 'res_img_1.txt': links" in refusal(path)


def test_other_compression(tmp_path):
    path = str(tmp_path / 'a.zip')
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as target:
        target.writestr('res_img_1.txt', 'x')
    assert 'compression method 12' in refusal(path)


def test_bomb_in_one_entry(make_zip):
    path = make_zip('a.zip', {'res_img_1.txt': bytes(archive.MAX_ENTRY_BYTES + 1)})
    assert os.path.getsize(path) < 100000
    assert "entry 'res_img_1.txt': 8388609 bytes exceed the limit of 8 MiB" in refusal(path)


def test_bomb_in_all_entries(make_zip):
    path = make_zip('a.zip', {f'res_img_{i}.txt': bytes(8 << 20) for i in range(9)})
    assert 'unpacks to 75497472 bytes, more than the 64 MiB' in refusal(path)


def test_bomb_with_a_lying_header_takes_no_memory(make_zip):
    path = make_zip('a.zip', {'res_img_1.txt': bytes(60 << 20)})
    data = bytearray(Path(path).read_bytes())
    for signature, offset in ((b'PK\x03\x04', 22), (b'PK\x01\x02', 24)):
        struct.pack_into('<L', data, data.index(signature) + offset, 10)
    Path(path).write_bytes(data)
    tracemalloc.start()
    assert 'damaged' in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_too_many_entries(make_zip, monkeypatch):
    monkeypatch.setattr(archive, 'MAX_ENTRIES', 2)
    path = make_zip('a.zip', {f'res_img_{i}.txt': '' for i in range(3)})
    assert 'has 3 entries, more than the 2' in refusal(path)


def test_too_large_a_file(tmp_path):
    path = tmp_path / 'a.zip'
    with open(path, 'wb') as file:
        file.truncate(archive.MAX_ARCHIVE_BYTES + 1)
    assert 'exceeds the limit of 64 MiB' in refusal(str(path))


def test_random_damage_is_never_a_traceback(make_zip, tmp_path):
    path = make_zip('a.zip', {f'res_img_{i}.txt': '1,2,3\r\n' * 9 for i in range(3)})
    original = Path(path).read_bytes()
    path, stream = tmp_path / 'b.zip', random.Random(0)
    for _ in range(400):
        data = bytearray(original)
        for _ in range(stream.choice([1, 1, 2, 9])):
            data[stream.randrange(len(data))] ^= 1 << stream.randrange(8)
        path.write_bytes(data[:stream.choice([len(data), stream.randrange(len(data))])])
        with contextlib.suppress(ProtocolError):
            read_archive(str(path), PATTERN, strict=True)


@pytest.mark.parametrize('data, line', [
    (b'\xff', 1), (b'a\nb\r\n\xe5\xad', 3), ('a\n'.encode('utf-16'), 1)])
def test_text_that_is_not_utf8_is_named_with_its_line(data, line):
    with pytest.raises(ProtocolError, match=f'^here, line {line}: not UTF-8'):
        decode(data, 'here')


def test_written_archives_depend_on_their_entries_alone(tmp_path):
    entries = [('b.txt', b'2'), ('a.txt', b'1')]
    paths = [str(tmp_path / name) for name in ('one.zip', 'two.zip')]
    for path in paths:
        write_archive(path, entries)
    first, second = (Path(path).read_bytes() for path in paths)
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as made:
        assert made.namelist() == ['b.txt', 'a.txt']
        assert made.testzip() is None
        assert stat.S_IMODE(made.getinfo('a.txt').external_attr >> 16) == 0o644


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a.zip'
    path.write_bytes(b'before')

    def entries():
        yield 'a.txt', b'1'
        raise OSError('disk full')
    with pytest.raises(OSError, match='disk full'):
        write_archive(str(path), entries())
    assert path.read_bytes() == b'before'
    assert os.listdir(tmp_path) == ['a.zip']
