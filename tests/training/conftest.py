"""Checkpoints of a few small variables, for tests that need no network."""

import os

import numpy as np
import pytest
import tensorflow as tf


def write_checkpoint(directory, values, name='model.ckpt-1', index=False,
                     version=tf.train.SaverDef.V2):
    """Saves arrays as a checkpoint.

    Args:
        directory: where it goes.
        values: variable name -> array; the dtype is kept.
        name: the checkpoint's name.
        index: whether the directory's index names it.
        version: format of the file.

    Returns:
        The prefix.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        for variable, value in values.items():
            tf.get_variable(variable, initializer=tf.constant(np.asarray(value)))
        session.run(tf.global_variables_initializer())
        return tf.train.Saver(write_version=version).save(
            session, os.path.join(str(directory), name), write_meta_graph=False, write_state=index)


@pytest.fixture
def session():
    """A session on a graph of its own, which is the default graph of the test."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


@pytest.fixture
def messages(caplog):
    """messages(): what the project has logged so far."""
    caplog.set_level('INFO', 'psenet')
    return lambda: [record.getMessage() for record in caplog.records if record.name == 'psenet']
