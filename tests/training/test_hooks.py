"""The log line, the guard against NaN, and when summaries and checkpoints are written."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from training import hooks
from training.graph import Fetches, Scalars
from training.hooks import (
    Batch,
    CheckpointHook,
    DivergenceError,
    DivergenceGuard,
    LogHook,
    StepResult,
    SummaryHook,
)

# What scripts that follow a published run look for.
PUBLISHED_LINE = re.compile(
    r'^Step (\d{6}), model loss (\d+\.\d{4}), total loss (\d+\.\d{4}), (\d+\.\d{2}) seconds/step, '
    r'(\d+\.\d{2}) examples/second(?:, .*)?$')


def result_of(step, data_seconds=0.0, **scalars):
    """A finished step on a batch of two."""
    values = {**dict.fromkeys(Scalars._fields, 0.5), **scalars}
    fetches = Fetches(None, float(step), Scalars(**values), np.full((8, 8, 6), 0.5, np.float32),
                      np.zeros(2, np.float32))
    batch = Batch(np.full((2, 32, 32, 3), 7, np.uint8), ['a/img_1.jpg', 'a/img_2.jpg'],
                  np.ones((2, 8, 8, 6), np.uint8), np.ones((2, 8, 8, 1), np.uint8))
    return StepResult(step, fetches, batch, data_seconds)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until ``clock.now`` is moved."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(hooks, 'time', SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Recorder:
    """Stands for both writers: keeps the calls."""

    def __init__(self):
        self.calls = []
        self.last_saved_step = -1

    def add_scalars(self, step, scalars):
        self.calls.append(('scalars', step, scalars))

    def add_images(self, step, pictures):
        self.calls.append(('pictures', step, pictures))

    def save(self, session, step):
        self.calls.append(('save', session, step))
        self.last_saved_step = step

    def steps(self):
        """The steps of save."""
        return [call[2] for call in self.calls]


def test_log_line_has_the_published_form(clock, messages):
    hook = LogHook(batch_size=14, max_steps=100000)
    clock.now += 0.82 * 5
    for step in range(6, 11):
        hook.after_step(None, result_of(step, 0.205, model_loss=0.12344, total_loss=0.23456))
    line, = messages()
    assert PUBLISHED_LINE.match(line).groups() == ('000010', '0.1234', '0.2346', '0.82', '17.07')


def test_log_line_goes_on_with_the_wait_for_data_and_the_time_left(clock, messages):
    hook = LogHook(batch_size=2, max_steps=100)
    clock.now += 20
    for step in range(1, 11):
        hook.after_step(None, result_of(step, data_seconds=0.5))
    assert messages()[0].endswith('1.00 examples/second, data wait 25.0%, ETA 0:03:00')


def test_log_lines_come_every_ten_steps_each_of_its_own_window(clock, messages):
    hook = LogHook(batch_size=1, max_steps=30)
    for step in range(1, 31):
        clock.now += step // 11 + 1
        hook.after_step(None, result_of(step))
    found = [PUBLISHED_LINE.match(line).groups() for line in messages()]
    assert [(step, seconds) for step, *_, seconds, _ in found] == [
        ('000010', '1.00'), ('000020', '2.00'), ('000030', '2.90')]


def test_log_line_of_a_run_beyond_its_end_leaves_no_time(clock):
    hook = LogHook(batch_size=1, max_steps=5)
    hook.after_step(None, result_of(7))
    assert hook.line(result_of(7), 1.0).endswith('ETA 0:00:00')


def test_guard_lets_numbers_pass():
    DivergenceGuard().after_step(None, result_of(3))


@pytest.mark.parametrize('name', Scalars._fields)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_guard_names_the_value_the_step_and_the_files(name, value):
    with pytest.raises(DivergenceError) as caught:
        DivergenceGuard().after_step(None, result_of(37, **{name: np.float32(value)}))
    for part in ('step 37', f'{name} is {value}', 'a/img_1.jpg, a/img_2.jpg', '--restore',
                 '--learning_rate'):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1


def test_summaries_are_written_at_the_interval():
    writer = Recorder()
    hook = SummaryHook(writer, 4)
    for step in range(1, 10):
        hook.after_step(None, result_of(step))
    assert [call[:2] for call in writer.calls] == [
        ('scalars', 4), ('pictures', 4), ('scalars', 8), ('pictures', 8)]


def test_summary_scalars_are_all_of_the_steps():
    writer = Recorder()
    SummaryHook(writer, 1).after_step(None, result_of(1, model_loss=0.25))
    scalars = writer.calls[0][2]
    assert list(scalars) == list(Scalars._fields)
    assert scalars['model_loss'] == 0.25


def test_summary_pictures_are_of_the_first_sample():
    writer = Recorder()
    SummaryHook(writer, 1).after_step(None, result_of(1))
    pictures = writer.calls[1][2]
    assert {name: (picture.shape, picture.dtype, picture.flat[0])
            for name, picture in pictures.items()} == {
        'input_image': ((32, 32, 3), np.uint8, 7), 'seg_map_gt': ((8, 8), np.uint8, 255),
        'seg_map_pred': ((8, 8), np.uint8, 127), 'training_mask': ((8, 8), np.uint8, 255)}


def test_checkpoints_are_saved_at_the_interval_and_at_the_end():
    writer = Recorder()
    hook = CheckpointHook(writer, 3, 100)
    for step in range(1, 8):
        hook.after_step('session', result_of(step))
    hook.end('session', 7)
    assert writer.calls == [('save', 'session', 3), ('save', 'session', 6), ('save', 'session', 7)]


@pytest.mark.parametrize('max_steps', [6, 100])
def test_the_last_step_is_not_saved_twice(max_steps):
    writer = Recorder()
    hook = CheckpointHook(writer, 3, max_steps)
    for step in range(1, 7):
        hook.after_step(None, result_of(step))
    assert writer.steps() == ([3] if max_steps == 6 else [3, 6])
    hook.end(None, 6)
    assert writer.steps() == [3, 6]
