"""Building the expansion: the command works anywhere, and says what is missing."""

import os
import shutil
import subprocess
import sys

import pytest

SOURCES = ('__init__.py', 'pse.cpp', 'Makefile')


def make(directory, *arguments, python=sys.executable):
    return subprocess.run(['make', '-C', str(directory), f'PYTHON={python}'] + list(arguments),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8',
                          check=False)


def run_python(root, code):
    return subprocess.run([sys.executable, '-c', code], cwd=str(root), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding='utf-8', check=False)


def copy_sources(project_root, root):
    directory = root / 'pse'
    directory.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy(str(project_root / 'pse' / name), str(directory))
    (root / 'utils').mkdir()
    shutil.copy(str(project_root / 'utils' / 'errors.py'), str(root / 'utils'))
    return directory


@pytest.fixture
def sources(project_root, tmp_path):
    """A copy of pse/ without a build, in a directory whose path holds a space."""
    return copy_sources(project_root, tmp_path / 'a directory')


@pytest.fixture(scope='module')
def built(project_root, tmp_path_factory):
    """A copy of pse/ that `make` has built, in a directory whose path holds a space."""
    directory = copy_sources(project_root, tmp_path_factory.mktemp('a build'))
    result = make(directory)
    assert result.returncode == 0, result.stdout
    assert 'warning' not in result.stdout
    return directory


def test_the_build_expands(built):
    result = run_python(built.parent, 'import pse, numpy; '
                        'print(pse.__file__, pse.pse(numpy.ones((1, 1, 2), bool), 1)[0].tolist())')
    assert result.stdout.strip() == f'{built / "__init__.py"} [[1, 1]]'


def test_the_build_is_repeated_for_a_changed_source_only(built):
    assert 'Nothing to be done' in make(built).stdout
    assert '-o _pse.' in make(built, '-W', 'pse.cpp', '-n').stdout


def test_clean_removes_the_build_and_nothing_else(sources):
    (sources / '_pse.cpython-37m-any.so').touch()
    assert make(sources, 'clean', python='/no/such/python').returncode == 0
    assert sorted(os.listdir(str(sources))) == sorted(SOURCES)


def test_import_without_a_build_says_the_command(sources):
    result = run_python(sources.parent, 'import pse')
    assert result.returncode != 0
    assert f"make -C '{sources}' PYTHON={sys.executable}" in result.stdout


def test_the_command_that_import_names_is_complete(sources):
    text = run_python(sources.parent, 'import pse').stdout
    command = text[text.rindex('make -C'):].strip()
    dry_run = subprocess.run(['sh', '-c', command + ' -n'], stdout=subprocess.PIPE,
                             encoding='utf-8', check=False)
    assert dry_run.returncode == 0
    assert 'pse.cpp' in dry_run.stdout


def fake_python(path, body):
    """An executable that answers as Python does, but for the lines of `body`."""
    path.write_text(f'#!/bin/sh\n{body}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(('body', 'words'), [
    ('exit 127', 'is no Python 3 that runs'),
    ('[ "$2" = pybind11 ] && exit 1', '-m pip install pybind11'),
    ('case "$2" in *listdir*) echo "[]"; exit;; esac', 'Python.h is missing'),
])
def test_what_python_lacks_is_named(sources, tmp_path, body, words):
    result = make(sources, python=fake_python(tmp_path / 'python', body))
    assert result.returncode != 0
    assert words in result.stdout
    assert 'Traceback' not in result.stdout


def test_a_missing_python_is_named(sources):
    assert 'PYTHON=/no/such/python is no Python 3 that runs' in make(
        sources, python='/no/such/python').stdout


def test_a_missing_compiler_is_named(sources):
    result = make(sources, 'CXX=no-such-compiler')
    assert result.returncode != 0
    assert 'the compiler no-such-compiler is missing' in result.stdout


def test_a_broken_source_leaves_no_module(sources):
    (sources / 'pse.cpp').write_text('this is no C++')
    assert make(sources).returncode != 0
    assert not list(sources.glob('_pse*.so'))
