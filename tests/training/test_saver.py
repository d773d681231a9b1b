"""Which files of a directory are written, kept and removed, and what a failing save leaves."""

import contextlib
import json
import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from tests.training.conftest import write_checkpoint
from training.checkpoints import build_saver, open_checkpoint, resolve_checkpoint
from training.devices.npu.estimator import FloatStep
from training.run_folder import (
    EVENTS_SUFFIX,
    CheckpointWriter,
    Manifest,
    find_checkpoints,
    remove_earlier_run,
    step_of,
)
from utils.errors import PSENetError

DATA = '.data-00000-of-00001'


@pytest.fixture
def weight(session):
    """The one variable of the session, 0."""
    variable = tf.get_variable('weight', initializer=0.0)
    session.run(variable.initializer)
    return variable


def save(session, directory, steps, keep=5):
    """Saves at these steps as one run does, the weight being the step."""
    writer = CheckpointWriter(str(directory), keep)
    for step in steps:
        tf.global_variables()[0].load(step, session)
        writer.save(session, step)
    return writer


def steps_in(directory):
    """Steps of the checkpoints in a directory that can be read and hold their step as weight."""
    checkpoints = [open_checkpoint(prefix) for prefix in find_checkpoints(str(directory))]
    steps = [int(checkpoint.reader.get_tensor('weight')) for checkpoint in checkpoints]
    assert steps == [step_of(checkpoint.prefix) for checkpoint in checkpoints]
    return steps


def listed(directory):
    """Names in the directory's manifest."""
    return json.loads((directory / 'training_files.json').read_text())['checkpoints']


def listed_steps(directory):
    """Steps of the names in the directory's manifest."""
    return [step_of(name) for name in listed(directory)]


def test_save_returns_the_prefix_and_remembers_the_step(session, weight, tmp_path):
    writer = CheckpointWriter(str(tmp_path), 5)
    assert writer.last_saved_step == -1
    assert writer.save(session, 7) == str(tmp_path / 'model.ckpt-7')
    assert writer.last_saved_step == 7


def test_files_of_a_save(session, weight, tmp_path):
    save(session, tmp_path, [7])
    assert sorted(os.listdir(str(tmp_path))) == [
        'checkpoint', 'model.ckpt-7' + DATA, 'model.ckpt-7.index', 'training_files.json']


def test_saved_folder_can_be_moved(session, weight, tmp_path):
    (tmp_path / 'here').mkdir()
    save(session, tmp_path / 'here', [7])
    (tmp_path / 'here').rename(tmp_path / 'there')
    assert resolve_checkpoint(str(tmp_path / 'there')) == str(tmp_path / 'there' / 'model.ckpt-7')


def test_rotation_keeps_the_newest(session, weight, tmp_path):
    save(session, tmp_path, [10, 20, 30, 40], keep=2)
    assert steps_in(tmp_path) == [30, 40]
    assert listed(tmp_path) == ['model.ckpt-30', 'model.ckpt-40']


def test_rotation_goes_on_after_a_restart(session, weight, tmp_path):
    save(session, tmp_path, [10, 20, 30], keep=3)
    save(session, tmp_path, [40], keep=3)
    assert steps_in(tmp_path) == listed_steps(tmp_path) == [20, 30, 40]


def test_a_smaller_number_to_keep_holds_after_a_restart(session, weight, tmp_path):
    save(session, tmp_path, [10, 20, 30, 40], keep=4)
    save(session, tmp_path, [50], keep=2)
    assert steps_in(tmp_path) == listed_steps(tmp_path) == [40, 50]


def test_saving_a_step_again_counts_it_once(session, weight, tmp_path):
    save(session, tmp_path, [10, 20])
    save(session, tmp_path, [10], keep=2)
    assert steps_in(tmp_path) == [10, 20]
    assert listed_steps(tmp_path) == [20, 10]


def test_rotation_leaves_checkpoints_that_were_there_before(session, weight, tmp_path):
    write_checkpoint(tmp_path, {'weight': np.float32(5)}, 'model.ckpt-5', index=True)
    save(session, tmp_path, [10, 20], keep=1)
    save(session, tmp_path, [30], keep=1)
    assert steps_in(tmp_path) == [5, 30]
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-30')


@pytest.mark.parametrize('name', ['run[1]', 'run*', 'run?'])
def test_rotation_in_a_folder_whose_name_looks_like_a_pattern(session, weight, tmp_path, name):
    for directory in ('run1', name):
        (tmp_path / directory).mkdir()
        save(session, tmp_path / directory, [10, 20, 30], keep=3 if directory == 'run1' else 1)
    assert steps_in(tmp_path / name) == [30]
    assert steps_in(tmp_path / 'run1') == [10, 20, 30]
    assert resolve_checkpoint(str(tmp_path / name)) == str(tmp_path / name / 'model.ckpt-30')


def test_rotation_leaves_files_beside_a_checkpoint(session, weight, tmp_path):
    save(session, tmp_path, [10])
    (tmp_path / 'model.ckpt-10.notes.txt').write_text('the one of the paper')
    save(session, tmp_path, [20], keep=1)
    assert steps_in(tmp_path) == [20]
    assert (tmp_path / 'model.ckpt-10.notes.txt').exists()


def test_the_step_is_saved_as_float32_and_restored_as_it_is_counted(session, weight, tmp_path):
    step = tf.get_variable('global_step', [], tf.int64, tf.zeros_initializer(), trainable=False)
    saver = build_saver(FloatStep(step))
    step.load(7, session)
    prefix = CheckpointWriter(str(tmp_path), 5, saver).save(session, 7)
    saved = open_checkpoint(prefix).reader.get_tensor('global_step')
    assert (saved.dtype, saved) == (np.float32, 7.0)
    step.load(0, session)
    saver.restore(session, prefix)
    assert session.run(step) == 7


def test_remove_earlier_run_removes_what_training_wrote(session, weight, tmp_path, messages):
    save(session, tmp_path, [10, 20])
    (tmp_path / 'eval').mkdir()
    for directory in (tmp_path, tmp_path / 'eval'):
        (directory / ('events.out.tfevents.1.host' + EVENTS_SUFFIX)).write_bytes(b'')
    (tmp_path / 'eval' / 'events.out.tfevents.1.host').write_bytes(b'mine')
    remove_earlier_run(str(tmp_path))
    assert sorted(os.listdir(str(tmp_path))) == ['eval', 'training_files.json']
    assert os.listdir(str(tmp_path / 'eval')) == ['events.out.tfevents.1.host']
    assert listed(tmp_path) == []
    assert 'removed 7 files of an earlier run' in messages()[-1]


def test_remove_earlier_run_leaves_everything_else(session, weight, tmp_path):
    write_checkpoint(tmp_path, {'weight': np.float32(5)}, 'model.ckpt-5')
    foreign = ['events.out.tfevents.1.host', 'model.ckpt-10.zip', 'model.ckpt-10.index.bak',
               'model.ckpt-100.index', 'notes.txt', 'graph.pbtxt', 'model.ckpt-5.index',
               'model.ckpt-5' + DATA]
    save(session, tmp_path, [10])
    for name in foreign[:-2]:
        (tmp_path / name).write_bytes(b'mine')
    remove_earlier_run(str(tmp_path))
    assert sorted(os.listdir(str(tmp_path))) == sorted(foreign + ['training_files.json'])


def test_remove_earlier_run_leaves_the_index_of_a_foreign_checkpoint(session, weight, tmp_path):
    save(session, tmp_path, [10])
    write_checkpoint(tmp_path, {'weight': np.float32(5)}, 'model.ckpt-5', index=True)
    remove_earlier_run(str(tmp_path))
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-5')


def test_remove_earlier_run_from_a_folder_that_was_never_ours(tmp_path):
    (tmp_path / 'model.ckpt-5.index').write_bytes(b'mine')
    remove_earlier_run(str(tmp_path))
    assert (tmp_path / 'model.ckpt-5.index').exists()


def test_remove_earlier_run_names_what_stays(session, weight, tmp_path, monkeypatch):
    save(session, tmp_path, [10])

    def refuse(path):
        raise PermissionError(13, 'Permission denied', path)
    monkeypatch.setattr(os, 'remove', refuse)
    with pytest.raises(PSENetError, match=r'--overwrite: .*Permission denied.*another directory'):
        remove_earlier_run(str(tmp_path))


@pytest.mark.parametrize('content', ['{"checkpoints": ["model.ckpt-10"', '[]', '{}', 'null',
                                     '{"checkpoints": 5}', '{"checkpoints": [5]}', '\udcff',
                                     '{"checkpoints": ["model.ckpt-10"], "seed": -1}',
                                     '{"checkpoints": ["model.ckpt-10"], "seed": "3"}'])
def test_a_broken_manifest_means_that_nothing_is_removed(
        session, weight, tmp_path, messages, content):
    save(session, tmp_path, [10])
    (tmp_path / 'training_files.json').write_bytes(content.encode(errors='surrogateescape'))
    remove_earlier_run(str(tmp_path))
    assert steps_in(tmp_path) == [10]
    assert any('training_files.json cannot be read' in message for message in messages())


def test_after_a_broken_manifest_new_checkpoints_are_listed(session, weight, tmp_path):
    save(session, tmp_path, [10])
    (tmp_path / 'training_files.json').write_text('{')
    save(session, tmp_path, [20, 30], keep=1)
    assert steps_in(tmp_path) == [10, 30]
    assert listed(tmp_path) == ['model.ckpt-30']


def test_a_manifest_cannot_point_out_of_its_folder(session, weight, tmp_path):
    for name in ('outside', 'run'):
        (tmp_path / name).mkdir()
    save(session, tmp_path / 'outside', [10])
    (tmp_path / 'run' / 'training_files.json').write_text(
        json.dumps({'checkpoints': ['../outside/model.ckpt-10']}))
    remove_earlier_run(str(tmp_path / 'run'))
    assert steps_in(tmp_path / 'outside') == [10]


def test_manifest_leaves_out_what_is_gone(session, weight, tmp_path):
    save(session, tmp_path, [10, 20])
    os.remove(str(tmp_path / 'model.ckpt-10.index'))
    assert Manifest(str(tmp_path)).checkpoints == [str(tmp_path / 'model.ckpt-20')]


# A directory where a file should go is in the way of everybody, of root as well.
@pytest.mark.parametrize('obstacle', ['model.ckpt-20' + DATA, 'model.ckpt-20.index',
                                      'training_files.json'])
def test_a_save_that_fails_leaves_the_earlier_checkpoint(session, weight, tmp_path, obstacle):
    writer = save(session, tmp_path, [10], keep=1)
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / obstacle).unlink()
    (tmp_path / obstacle / 'something').mkdir(parents=True)
    with pytest.raises(PSENetError, match=r'step 20 cannot be written .*intact.*--restore'):
        writer.save(session, 20)
    assert writer.last_saved_step == 10
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-10')
    assert open_checkpoint(str(tmp_path)).reader.get_tensor('weight') == 10


def test_a_folder_that_is_gone_is_named(session, weight, tmp_path):
    (tmp_path / 'run').mkdir()
    writer = save(session, tmp_path / 'run', [])
    (tmp_path / 'run').rmdir()
    with pytest.raises(PSENetError, match=f'step 3 cannot be written to {tmp_path}/run: the '
                                          'directory no longer exists'):
        writer.save(session, 3)


LEFTOVERS = [f'model.ckpt-20{DATA}', 'model.ckpt-20.index.tempstate123',
             f'model.ckpt-20{DATA}.tempstate123']
FOREIGN = [f'model.ckpt-200{DATA}', f'model.ckpt-200{DATA}.tempstate123',
           'model.ckpt-20.meta', 'model.ckpt-20.tempstate']


@pytest.fixture
def cut_off(session, weight, tmp_path):
    """A directory with a checkpoint and what a process left that was killed while it saved."""
    save(session, tmp_path, [10])
    Manifest(str(tmp_path)).add(str(tmp_path / 'model.ckpt-20'))
    for name in LEFTOVERS + FOREIGN:
        (tmp_path / name).write_bytes(b'half')
    return tmp_path


def test_what_a_killed_process_left_is_removed(session, cut_off):
    CheckpointWriter(str(cut_off), 5)
    assert not set(LEFTOVERS) & set(os.listdir(str(cut_off)))
    assert set(FOREIGN) < set(os.listdir(str(cut_off)))
    assert steps_in(cut_off) == [10]


def test_what_a_killed_process_left_is_removed_with_its_run(cut_off):
    remove_earlier_run(str(cut_off))
    assert sorted(os.listdir(str(cut_off))) == sorted(FOREIGN + ['training_files.json'])


def test_a_save_that_fails_leaves_no_files(session, weight, tmp_path):
    save(session, tmp_path, [10])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(os.listdir(str(tmp_path)))
    large = tf.get_variable('large', shape=[10 ** 6], initializer=tf.zeros_initializer())
    session.run(large.initializer)
    writer = CheckpointWriter(str(tmp_path), 5)
    # As on a full disk: all that fits is written, then writing fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 ** 6, limits[1]))
    try:
        with pytest.raises(PSENetError, match=r'step 20 cannot be written .*File too large'):
            writer.save(session, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(str(tmp_path))) == before
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-10')


def test_the_seed_is_written_down_with_the_checkpoints(session, weight, tmp_path):
    CheckpointWriter(str(tmp_path), 5, seed=2 ** 32 - 1).save(session, 10)
    assert Manifest(str(tmp_path)).seed == 2 ** 32 - 1


def test_saving_goes_on_after_a_failure(session, weight, tmp_path):
    writer = save(session, tmp_path, [10], keep=1)
    obstacle = tmp_path / ('model.ckpt-20' + DATA)
    (obstacle / 'something').mkdir(parents=True)
    with pytest.raises(PSENetError):
        writer.save(session, 20)
    (obstacle / 'something').rmdir()
    obstacle.rmdir()
    weight.load(20, session)
    writer.save(session, 20)
    assert steps_in(tmp_path) == listed_steps(tmp_path) == [20]
