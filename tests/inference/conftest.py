"""A checkpoint with the reference's weights, for the tests that run the network."""

import shutil

import pytest


@pytest.fixture(scope='package')
def checkpoint(tmp_path_factory):
    """Prefix of a checkpoint with the weights by rule, trainable ones as moving averages alone."""
    # TensorFlow comes with it; make test-detect has none.
    from tests.reference_rule import write_rule_checkpoint

    directory = tmp_path_factory.mktemp('checkpoint')
    yield write_rule_checkpoint(str(directory))
    shutil.rmtree(str(directory))  # 110 MB, and pytest keeps directories of earlier runs
