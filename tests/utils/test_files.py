"""Files known by their content."""

import hashlib

import pytest

from utils.files import file_digest


def test_the_content_alone_counts(tmp_path):
    content = b'weights' * 300000  # more than a block
    for name in ('one', 'two'):
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'three').write_bytes(content[:-1])
    digests = [file_digest(str(tmp_path / name)) for name in ('one', 'two', 'three')]
    assert digests[0] == digests[1] == hashlib.sha256(content).hexdigest()[:32]
    assert digests[2] != digests[0]


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_digest(str(tmp_path / 'none'))
