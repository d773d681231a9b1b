"""Curves: what is read from event files, the figures of a comparison, and the command."""

import csv
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.tools.events import write_events
from tools.curves import (
    TAGS,
    Scalars,
    compare,
    draw_comparison,
    figures_of,
    format_table,
    name_runs,
    picture_names,
    read_scalars,
    smooth,
)
from training.summaries import SummaryWriter
from utils.errors import PSENetError


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
    directory = tmp_path / '\udcd6\udcd0'
    directory.mkdir()
    with pytest.raises(PSENetError, match='not UTF-8; rename it'):
        read_scalars(str(directory), TAGS)


def test_smoothing_is_exact_on_a_small_case():
    # Weights 1 : 2 after the division by their sum.
    np.testing.assert_allclose(smooth(np.array([3.0, 0.0]), weight=0.5), [3.0, 1.0])


def test_smoothing_keeps_a_constant():
    np.testing.assert_allclose(smooth(np.full(20, 0.7)), 0.7)


def _curve(steps, values, seconds_per_step=0.5):
    steps = np.asarray(steps)
    return Scalars(steps, np.broadcast_to(np.asarray(values, np.float64), steps.shape),
                   steps * seconds_per_step)


class TestFigures:
    def test_two_constant_runs(self):
        first, second = compare({'a': _curve(np.arange(1, 101), 1.0),
                                 'b': _curve(np.arange(1, 101), 1.25, 0.25)}, 0.5)
        figures = figures_of(second)
        assert figures[:4] == ('b', 100, 1, 100)
        np.testing.assert_allclose(
            [figures.final, figures.best, figures.mean_gap, figures.largest_gap], [1.25, 1.25,
                                                                                   0.25, 0.25])
        assert figures.steps_per_second == 4
        assert figures_of(first).steps_per_second == 2

    def test_largest_gap_has_its_sign_and_its_step(self):
        values = np.ones(100)
        values[60] = -7
        figures = figures_of(compare({'a': _curve(np.arange(100), 1.0),
                                      'b': _curve(np.arange(100), values)}, 0.5)[1])
        assert figures.largest_gap_step == figures.best_step == 60
        np.testing.assert_allclose(figures.largest_gap, -4)

    def test_smoothing_covers_as_many_steps_whatever_the_points(self):
        wide, narrow = np.arange(10, 1001, 10), np.arange(1, 1001)
        coarse, fine = compare({'a': _curve(wide, np.where(wide <= 500, 1.0, 0.0)),
                                'b': _curve(narrow, np.where(narrow <= 500, 1.0, 0.0))}, 0.9)
        at = [510, 600, 700]
        np.testing.assert_allclose(fine.smoothed[np.isin(narrow, at)],
                                   coarse.smoothed[np.isin(wide, at)], atol=0.01)

    def test_noise_of_the_first_points_is_no_gap(self):
        values = np.ones(200)
        values[0] = 100
        figures = figures_of(compare({'a': _curve(np.arange(200), 1.0),
                                      'b': _curve(np.arange(200), values)}, 0.9)[1])
        assert figures.largest_gap < 10

    def test_gaps_are_of_common_steps_alone(self):
        late = compare({'a': _curve(np.arange(50), 1.0), 'b': _curve(np.arange(40, 90), 2.0)}, 0.5)
        assert late[1].gap.steps.max() == 49
        apart = compare({'a': _curve(np.arange(50), 1.0), 'b': _curve(np.arange(60, 90), 2.0)}, 0.5)
        assert np.isnan(figures_of(apart[1]).mean_gap)
        assert format_table(apart).splitlines()[2].split()[-3:-1] == ['-', '-']

    def test_a_stop_does_not_slow_a_run(self):
        curve = _curve(np.arange(20), 1.0)
        curve.times[10:] += 1e6
        assert figures_of(compare({'a': curve}, 0.5)[0]).steps_per_second == 2

    def test_single_points(self, tmp_path):
        runs = compare({'a': _curve([5], 1.0), 'b': _curve([5], 3.0)}, 0.9)
        assert figures_of(runs[1]).mean_gap == 2
        assert np.isnan(figures_of(runs[1]).steps_per_second)
        draw_comparison(runs, 'loss', str(tmp_path / 'out.png'))


class TestNames:
    def test_what_the_picture_cannot_show_is_numbered(self, tmp_path, recwarn):
        names = ['GPU', '检查', '_x', '$a$']
        assert picture_names(names) == ['GPU', 'run 2', ' _x', r'\$a\$']
        runs = compare({name: _curve([1, 2], 1.0) for name in names}, 0.5)
        draw_comparison(runs, 'loss', str(tmp_path / 'out.png'))
        assert not [warning for warning in recwarn if warning.category is UserWarning]

    def test_name_path_or_both(self, tmp_path):
        directory = tmp_path / 'lr=0.1'
        directory.mkdir()
        assert name_runs([f'GPU={tmp_path}/x', f'{tmp_path}/npu/', str(directory)]) == {
            'GPU': f'{tmp_path}/x', 'npu': f'{tmp_path}/npu/', 'lr=0.1': str(directory)}

    @pytest.mark.parametrize('arguments, message', [
        ([], '--run is missing'), (['x/run', 'y/run'], '--run=A=x/run --run=B=y/run')])
    def test_what_cannot_be_compared_is_refused(self, arguments, message):
        with pytest.raises(PSENetError, match=message):
            name_runs(arguments)


def _run(project_root, directory, *arguments):
    command = [sys.executable, '-m', 'tools.curves', *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=str(directory),
                          check=False)


def test_command(project_root, tmp_path):
    steps = range(10, 501, 10)
    for name, tag, loss in (('gpu', 'total_loss', 1.0), ('npu', 'model_0/total_loss_1', 1.5)):
        (tmp_path / name).mkdir()
        write_events(tmp_path / name, [(step, loss - step / 1000) for step in steps], [tag],
                     steps_per_second=4)
    ended = _run(project_root, tmp_path, '--run=GPU=gpu', '--run=npu')
    assert ended.returncode == 0, ended.stderr
    row = ended.stdout.splitlines()[2].split()
    assert row[:3] + row[5:8] + row[9:] == ['npu', '10..500', '50', '(500)', '+0.5000', '+0.5000',
                                            '4.00']
    with (tmp_path / 'curves.csv').open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row['run'] for row in rows] == ['GPU', 'npu']
    assert float(rows[1]['mean_gap']) == pytest.approx(0.5)
    image = cv2.imread(str(tmp_path / 'curves.png'))
    assert image.shape == (840, 1080, 3)
    # matplotlib's first two colours, as BGR.
    for colour in ((180, 119, 31), (14, 127, 255)):
        assert (image == colour).all(axis=-1).sum() > 500


@pytest.mark.parametrize('arguments, message', [
    ([], '--run is missing'), (['--run=a'], '"a" is neither a directory'),
    (['--run=a', '--run=b'], '"a" is neither a directory')])
def test_command_says_what_is_wrong_in_a_sentence(project_root, tmp_path, arguments, message):
    ended = _run(project_root, tmp_path, *arguments)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_command_draws_the_losses_of_one_run(project_root, tmp_path):
    (tmp_path / 'run').mkdir()
    write_events(tmp_path / 'run', [(step, 2 / step) for step in range(1, 50)], TAGS)
    ended = _run(project_root, tmp_path, '--run=run', '--out=loss.png')
    assert ended.returncode == 0, ended.stderr
    image = cv2.imread(str(tmp_path / 'loss.png'))
    assert image.shape == (600, 960, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
    assert not (tmp_path / 'curves.csv').exists()
