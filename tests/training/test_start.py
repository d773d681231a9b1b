"""Where a run may start, and what it starts with."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tests.training.conftest import write_checkpoint
from training.checkpoints import initialise, open_checkpoint
from training.config import TrainConfig
from training.run_folder import CheckpointWriter, choose_seed, find_start
from utils.errors import PSENetError

VALUES = {'weight': np.float32([1, 2]), 'global_step': np.float32(7)}


@pytest.fixture
def directory(tmp_path):
    """The run's directory; not made yet."""
    return tmp_path / 'run'


def config(directory, **options):
    """A run in that directory."""
    return TrainConfig(checkpoint_path=str(directory), **options)


def checkpoint_in(directory, step=7, **options):
    """Somebody else's checkpoint, model.ckpt-<step>."""
    directory.mkdir(exist_ok=True)
    return write_checkpoint(directory, {**VALUES, 'global_step': np.float32(step)},
                            f'model.ckpt-{step}', **options)


def our_checkpoint_in(directory, step, seed=None):
    """A checkpoint as training writes it."""
    directory.mkdir(exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable('global_step', initializer=float(step))
        session.run(tf.global_variables_initializer())
        CheckpointWriter(str(directory), 5, seed=seed).save(session, step)


def test_a_new_folder_is_made(directory):
    assert find_start(config(directory / 'deep')) is None
    assert os.listdir(str(directory / 'deep')) == []


def test_a_folder_with_other_files_will_do(directory):
    directory.mkdir()
    (directory / 'notes.txt').write_text('mine')
    assert find_start(config(directory)) is None


def test_a_folder_with_a_checkpoint_is_refused(directory):
    checkpoint_in(directory)
    with pytest.raises(PSENetError, match=r'already holds a checkpoint: .*--restore.*--overwrite'):
        find_start(config(directory))


def test_a_folder_with_nothing_but_an_index_is_refused(directory):
    directory.mkdir()
    (directory / 'checkpoint').write_text('model_checkpoint_path: "resnet_v1_50.ckpt"')
    with pytest.raises(PSENetError, match='already holds a checkpoint'):
        find_start(config(directory))


def test_a_sub_folder_in_place_of_the_index_is_refused(directory):
    (directory / 'checkpoint').mkdir(parents=True)
    with pytest.raises(PSENetError, match='has a directory named checkpoint'):
        find_start(config(directory))


@pytest.mark.parametrize(('written', 'given', 'expected'), [
    (5, None, 5), (5, 6, 6), (5, 0, 0), (None, None, None), (None, 6, 6)])
def test_the_seed_of_a_run_that_goes_on(directory, written, given, expected):
    our_checkpoint_in(directory, 7, written)
    run = config(directory, restore=True, seed=given)
    assert choose_seed(run, find_start(run)) == expected


def test_the_seed_of_another_run_is_not_taken(directory):
    our_checkpoint_in(directory, 7, seed=5)
    assert choose_seed(config(directory, overwrite=True), None) is None
    run = config(directory, restore=True)
    start = open_checkpoint(checkpoint_in(directory, 8))
    assert choose_seed(run, start) is None


def test_overwrite_starts_anew_and_touches_nothing_yet(directory):
    our_checkpoint_in(directory, 7)
    before = sorted(os.listdir(str(directory)))
    assert find_start(config(directory, overwrite=True)) is None
    assert sorted(os.listdir(str(directory))) == before


def test_overwrite_is_refused_where_a_foreign_checkpoint_would_be_written_over(directory):
    checkpoint_in(directory, 7)
    with pytest.raises(PSENetError, match=r'holds model\.ckpt-7, which .* training_files\.json'):
        find_start(config(directory, overwrite=True, max_steps=7))


def test_overwrite_may_stay_below_a_foreign_checkpoint(directory):
    checkpoint_in(directory, 7)
    assert find_start(config(directory, overwrite=True, max_steps=6)) is None


def test_overwrite_may_stand_beside_a_checkpoint_of_another_name(directory):
    directory.mkdir()
    write_checkpoint(directory, VALUES, 'published-7')
    assert find_start(config(directory, overwrite=True)) is None


def test_restore_finds_the_newest(directory):
    checkpoint_in(directory, 900)
    checkpoint_in(directory, 1000)
    start = find_start(config(directory, restore=True))
    assert start.prefix == str(directory / 'model.ckpt-1000')
    assert start.global_step() == 1000


def test_restore_is_refused_where_a_foreign_checkpoint_would_be_written_over(directory):
    checkpoint_in(directory, 900, index=True)
    checkpoint_in(directory, 1000)
    with pytest.raises(PSENetError, match=r'holds model\.ckpt-1000, which'):
        find_start(config(directory, restore=True))


def test_restore_from_an_earlier_step_may_write_over_its_own(directory):
    our_checkpoint_in(directory, 900)
    our_checkpoint_in(directory, 1000)
    (directory / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-900"')
    assert find_start(config(directory, restore=True)).global_step() == 900


@pytest.mark.parametrize(('steps', 'way_out'), [
    ([900], 'copy its files again'),
    ([900, 1000], r'move the files of model\.ckpt-1000 away to continue from model\.ckpt-900')])
def test_nobody_is_told_to_start_anew_where_files_exist(directory, steps, way_out):
    for step in steps:
        checkpoint_in(directory, step)
    (directory / f'model.ckpt-{steps[-1]}.index').write_text('cut off')
    with pytest.raises(PSENetError, match=f'is damaged .*{way_out}') as error:
        find_start(config(directory, restore=True))
    assert 'omit --restore' not in str(error.value)


def test_restore_without_a_checkpoint_is_refused(directory):
    with pytest.raises(PSENetError, match=r'--restore: no checkpoint .*omit --restore'):
        find_start(config(directory, restore=True))


def test_restore_of_a_truncated_checkpoint_is_refused(directory):
    os.truncate(checkpoint_in(directory) + '.data-00000-of-00001', 1)
    with pytest.raises(PSENetError, match=r'model\.ckpt-7 is damaged'):
        find_start(config(directory, restore=True))


def test_restore_says_that_pretrained_weights_are_not_loaded_again(directory, messages):
    checkpoint_in(directory)
    find_start(config(directory, restore=True, pretrained_model_path='nowhere'))
    assert '--pretrained_model_path is ignored' in messages()[0]


def test_pretrained_weights_are_looked_for_before_anything_starts(directory):
    with pytest.raises(PSENetError, match='there is no checkpoint at nowhere'):
        find_start(config(directory, pretrained_model_path='nowhere'))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(PSENetError, match=r'=.*/file/run cannot be written \(Not a directory\)'):
        find_start(config(tmp_path / 'file' / 'run'))


@pytest.fixture
def graph(session):
    """(session, average) of a weight [2] that starts from 5 and a float32 step."""
    weight = tf.get_variable('weight', [2], initializer=tf.constant_initializer(5))
    tf.get_variable('global_step', [], tf.float32, trainable=False,
                    initializer=tf.zeros_initializer())
    average = tf.train.ExponentialMovingAverage(0.9)
    average.apply([weight])
    return session, average


def values_of(session):
    """(weight, its average, step)."""
    names = ('weight:0', 'weight/ExponentialMovingAverage:0', 'global_step:0')
    return [np.asarray(value).tolist() for value in session.run(names)]


def test_initialise_without_a_start_takes_the_initial_values(graph, directory):
    session, average = graph
    initialise(session, config(directory), None, average)
    assert values_of(session) == [[5, 5], [5, 5], 0]


def test_initialise_from_pretrained_weights(graph, directory, tmp_path):
    session, average = graph
    prefix = write_checkpoint(tmp_path, VALUES)
    initialise(session, config(directory, pretrained_model_path=prefix), None, average)
    assert values_of(session) == [[1, 2], [1, 2], 0]


def test_initialise_from_a_checkpoint(graph, directory):
    session, average = graph
    checkpoint_in(directory)
    options = config(directory, restore=True, pretrained_model_path='nowhere')
    initialise(session, options, find_start(options), average)
    assert values_of(session) == [[1, 2], [1, 2], 7]
