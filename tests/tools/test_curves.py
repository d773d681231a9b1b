"""Curves: what is read from event files of this project and of others, and how it is smoothed."""

import os

import numpy as np
import pytest

from tests.tools.events import write_events
from tools.curves import read_scalars, smooth
from training.summaries import SummaryWriter
from utils.errors import PSENetError

TAGS = ('total_loss', 'model_loss')


def test_reads_steps_values_and_times(tmp_path):
    write_events(tmp_path, [(1, 0.5), (6, 0.25)], TAGS, start=100, steps_per_second=2)
    curves = read_scalars(str(tmp_path), TAGS)
    assert set(curves) == set(TAGS)
    np.testing.assert_array_equal(curves['model_loss'].steps, [1, 6])
    np.testing.assert_array_equal(curves['model_loss'].values, [0.5, 0.25])
    np.testing.assert_array_equal(curves['model_loss'].times, [100.5, 103])


def test_one_event_file_will_do(tmp_path):
    path = write_events(tmp_path, [(1, 0.5)])
    assert read_scalars(path, ['total_loss'])['total_loss'].values.tolist() == [0.5]


@pytest.mark.parametrize('tags, expected', [
    (['total_loss_1'], 'total_loss_1'), (['model_0/total_loss'], 'model_0/total_loss'),
    (['total_loss', 'total_loss_1'], 'total_loss'),
    (['b/total_loss', 'a/total_loss_1', 'a/total_loss'], 'a/total_loss')])
def test_name_scopes_and_numbers_do_not_matter(tmp_path, tags, expected):
    for place, tag in enumerate(tags):
        write_events(tmp_path, [(1, place)], [tag])
    values = read_scalars(str(tmp_path), ['total_loss'])['total_loss'].values
    assert values.tolist() == [tags.index(expected)]


@pytest.mark.parametrize('marked', [False, True])
def test_after_a_restart_the_later_part_counts(tmp_path, marked):
    write_events(tmp_path, [(10, 1), (20, 2), (30, 3), (35, 4)])
    write_events(tmp_path, [(20, 5), (30, 6), (40, 7)], restart_at=11 if marked else None)
    curve = read_scalars(str(tmp_path), ['total_loss'])['total_loss']
    assert curve.steps.tolist() == [10, 20, 30, 40]
    assert curve.values.tolist() == [1, 5, 6, 7]


def test_a_run_of_training_that_was_restored(tmp_path):
    # What was written beyond the checkpoint is void, though no later point stands in its place.
    for number, first_step, steps in ((1, 0, (1, 101, 201, 251)), (2, 200, (301,))):
        with SummaryWriter(str(tmp_path / str(number)), first_step) as writer:
            for step in steps:
                writer.add_scalars(step, {'total_loss': number})
        # Names hold seconds alone, and both were written in one.
        path, = (tmp_path / str(number)).iterdir()
        path.rename(tmp_path / f'events.out.tfevents.{number}')
    curve = read_scalars(str(tmp_path), ['total_loss'])['total_loss']
    assert curve.steps.tolist() == [1, 101, 301]
    assert curve.values.tolist() == [1, 1, 2]


def test_a_file_that_ends_within_a_record(tmp_path):
    path = write_events(tmp_path, [(1, 0.5), (2, 0.25)])
    with open(path, 'r+b') as stream:
        stream.truncate(os.path.getsize(path) - 5)
    assert read_scalars(path, ['total_loss'])['total_loss'].steps.tolist() == [1]


def test_points_that_are_no_numbers_are_left_out(tmp_path):
    write_events(tmp_path, [(1, 0.5), (2, float('nan')), (3, float('inf')), (4, 0.25)])
    assert read_scalars(str(tmp_path), ['total_loss'])['total_loss'].steps.tolist() == [1, 4]


def test_nothing_but_nan_is_refused(tmp_path):
    write_events(tmp_path, [(1, float('nan'))])
    with pytest.raises(PSENetError, match='none of the 1 points is a finite number'):
        read_scalars(str(tmp_path), ['total_loss'])


@pytest.mark.parametrize('tags', [(), ('accuracy',), ('subtotal_loss',)])
def test_events_without_losses_are_refused(tmp_path, tags):
    write_events(tmp_path, [(1, 0.5)], tags)
    with pytest.raises(PSENetError, match='no TensorBoard events'):
        read_scalars(str(tmp_path), TAGS)


def test_missing_folder_and_other_files_are_refused(tmp_path):
    (tmp_path / 'loss.txt').write_text('1')
    for name in ('absent', 'loss.txt'):
        with pytest.raises(PSENetError, match='neither a directory with TensorBoard events'):
            read_scalars(str(tmp_path / name), TAGS)


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    folder = tmp_path / '\udcd6\udcd0'
    folder.mkdir()
    with pytest.raises(PSENetError, match='not UTF-8; rename it'):
        read_scalars(str(folder), TAGS)


def test_smoothing_is_exact_on_a_small_case():
    # Weights 1 : 2 after the division by their sum.
    np.testing.assert_allclose(smooth(np.array([3.0, 0.0]), weight=0.5), [3.0, 1.0])


def test_smoothing_keeps_a_constant():
    np.testing.assert_allclose(smooth(np.full(20, 0.7)), 0.7)
