"""What is told of an error of others."""

import pytest

from utils.errors import first_line


@pytest.mark.parametrize('error, line', [
    (ValueError('first.\nsecond'), 'first'),
    (OSError('\n gone'), 'gone'),
    (RuntimeError(), 'RuntimeError'),
])
def test_first_line(error, line):
    assert first_line(error) == line
