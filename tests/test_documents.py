"""The documents quote messages as the programs print them."""

import re

import pytest

# Printed by other programs.
FOREIGN = ('libGL.so.1: cannot open shared object file',)
_VALUE = r'(?:\d+|%\w|\{[^{}]*\})'


@pytest.fixture(scope='module')
def source(project_root):
    """The text of all sources, with string literals that span lines joined."""
    paths = [path for pattern in ('*.py', '*.sh') for path in project_root.rglob(pattern)
             if not {'.venv', '.venv-detect', 'tests'} & set(path.parts)]
    text = '\n'.join(path.read_text(encoding='utf-8') for path in paths)
    return re.sub(r"""['"]\s*\n\s*f?['"]""", '', text)


def quoted(text):
    """The quoted messages in the first column of tables, split where '...' stands for anything."""
    for row in re.findall(r'(?m)^\| (.*?) \|', text):
        for message in re.findall(r'`([^`]+)`', row):
            if message not in FOREIGN:
                yield from (part.strip() for part in message.split('...') if ' ' in part.strip())


@pytest.mark.parametrize('document', ['docs/troubleshooting.md', 'docs/troubleshooting.zh-CN.md'])
def test_every_message_is_one_that_a_program_prints(project_root, source, document):
    messages = list(quoted((project_root / document).read_text(encoding='utf-8')))
    assert len(messages) > 10
    unknown = [message for message in messages if not re.search(
        re.sub(r'\d+', lambda _: _VALUE, re.escape(message)), source)]
    assert not unknown
