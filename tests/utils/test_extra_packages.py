"""What is said of a package that is not there."""

import importlib

import pytest

from utils.errors import PSENetError, extra_package


def test_a_package_that_is_there_is_imported():
    with extra_package('the tool'):
        assert importlib.import_module('json').dumps(1) == '1'


def test_a_missing_package_is_named_with_the_way_out():
    with pytest.raises(PSENetError, match='the tool needs the package no_such_package, which '
                                          'is not installed; run make setup-tools'), \
            extra_package('the tool'):
        importlib.import_module('no_such_package.part')


def test_a_package_that_does_not_start_is_told_of():
    with pytest.raises(PSENetError, match=r'the tool needs .* \(libx.so: not found\); run make'), \
            extra_package('the tool'):
        raise ImportError('libx.so: not found\nmore')
