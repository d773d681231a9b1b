"""The closing lines: their form, and what the figures are taken over."""

import math
from types import SimpleNamespace

import pytest

from training import hooks as final_figures
from training.hooks import FinalFigures, StepResult


def result_of(step, total_loss, taken=1):
    """A finished step, or several."""
    values = SimpleNamespace(scalars=SimpleNamespace(total_loss=total_loss))
    return StepResult(step, values, None, 0.0, taken)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until ``clock.now`` is moved."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(final_figures, 'time', SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def lines_of(clock, steps, batch_size=112):
    """What a run writes whose steps take these seconds; ``skip`` takes four seconds."""
    lines = []
    hook = FinalFigures(batch_size, lines.append)
    for number, seconds in enumerate(steps, start=1):
        clock.now += 4 if seconds == 'skip' else seconds
        told = hook.after_skip if seconds == 'skip' else hook.after_step
        told(None, result_of(number, 1 / number))
    clock.now += 10
    hook.end(None, len(steps))
    return lines


def test_lines_have_the_fields_that_scripts_cut_out(clock):
    lines = lines_of(clock, [300, 0.25, 0.75, 0.5])
    assert lines == ['Final Train Accuracy 0.2500', 'E2E Training Duration sec 311.50',
                     'avg time per step 0.5000', 'FPS 224.00']
    fields = [line.split(' ') for line in lines]
    assert [fields[0][3], fields[1][4], fields[2][4], fields[3][1]] == [
        '0.2500', '311.50', '0.5000', '224.00']


def test_steps_that_were_left_out_cost_time_and_give_nothing(clock):
    assert lines_of(clock, [1, 'skip', 1, 1])[2:] == ['avg time per step 3.0000', 'FPS 37.33']


def test_a_result_may_stand_for_several_steps(clock):
    lines = []
    hook = FinalFigures(8, lines.append)
    for seconds in (100, 2, 4):
        clock.now += seconds
        hook.after_step(None, result_of(0, 0.5, taken=10))
    hook.end(None, 30)
    assert lines[2:] == ['avg time per step 0.3000', 'FPS 26.67']


@pytest.mark.parametrize('steps', [[], [2]])
def test_averages_need_a_second_step(clock, steps):
    lines = lines_of(clock, steps)
    assert lines[1] == f'E2E Training Duration sec {10 + sum(steps):.2f}'
    assert lines[2:] == ['avg time per step nan', 'FPS nan']
    assert math.isnan(float(lines[0].split()[-1])) == (not steps)
