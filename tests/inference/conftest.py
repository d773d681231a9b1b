"""A checkpoint with the reference's weights, for the tests that run the network."""

import shutil

import pytest


@pytest.fixture(scope='package')
def checkpoint(tmp_path_factory):
    """Prefix of a checkpoint with the weights by rule, trainable ones as moving averages alone."""
    # TensorFlow comes with it; make test-detect has none.
    from tests.reference_rule import write_rule_checkpoint

    folder = tmp_path_factory.mktemp('checkpoint')
    yield write_rule_checkpoint(str(folder))
    shutil.rmtree(str(folder))  # pytest keeps folders of earlier runs, and this one takes 110 MB
