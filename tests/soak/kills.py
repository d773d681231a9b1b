"""SIGKILL to a whole training at random moments, again and again."""

import pathlib
import random
import time
from typing import NamedTuple, Set

from tests.soak.training_run import TrainingRun, load_newest, unfinished_files

# Of the kills, these shares fall into the start of a process, and into what follows its first save;
# the others into the time between.
_START_SHARE, _SAVED_SHARE = 0.2, 0.5


class KillFigures(NamedTuple):
    """What came of it."""

    kills: int = 0
    while_starting: int = 0     # before the checkpoint was restored
    while_saving: int = 0       # leaving files of a checkpoint that was not done
    last_step: int = 0

    def __str__(self) -> str:
        return ('%d kills survived, %d of them while starting and %d while saving; trained on to '
                'step %d, no step that was saved is lost' % self)


class _Pace(NamedTuple):
    """How fast this machine is at the moment, in seconds."""

    start: float        # until training goes on
    interval: float     # from one save to the next


def kill_and_go_on(data: pathlib.Path, directory: pathlib.Path, kills: int, seed: int,
                   seconds: float) -> KillFigures:
    """Kills a training at random times, and lets it go on each time.

    The newest listed checkpoint must load after each kill and be no older than the last save that
    the log tells of, and training must go on from it.

    Args:
        data: training data.
        directory: of the run; new.
        kills: how many.
        seed: of the moments.
        seconds: after which no further run is started.

    Returns:
        The figures.
    """
    draw, end = random.Random(seed), time.monotonic() + seconds
    with TrainingRun(data, directory) as run:
        start = run.wait_for('training data: ')
        run.wait_for_save()
        pace = _Pace(start, run.wait_for_save())
        figures = _survive(run, KillFigures(), set())
    while figures.kills < kills and time.monotonic() < end:
        unfinished = set(unfinished_files(directory))
        with TrainingRun(data, directory, restore=True) as run:
            pace = _await_moment(run, draw, pace, figures.last_step)
            assert run.process.poll() is None, 'it ended by itself:\n' + run.last_lines
            figures = _survive(run, figures, unfinished)
    return figures._replace(last_step=_go_on_at_last(data, directory, figures.last_step))


def _await_moment(run: TrainingRun, draw: random.Random, pace: _Pace, step: int) -> _Pace:
    """Waits for the moment of a kill; returns the pace, measured anew."""
    kind = draw.random()
    if kind < _START_SHARE:
        time.sleep(draw.uniform(0, pace.start))
        return pace
    pace = pace._replace(start=_await_restored(run, step))
    if kind < _START_SHARE + _SAVED_SHARE:
        run.wait_for_save()
    time.sleep(draw.uniform(0, 1.5 * pace.interval))
    return pace


def _await_restored(run: TrainingRun, step: int) -> float:
    seconds = run.wait_for(r'restored .*-\d+$')
    assert run.count(rf'restored .*-{step}$'), run.last_lines
    return seconds


def _survive(run: TrainingRun, figures: KillFigures, unfinished: Set[str]) -> KillFigures:
    """Kills a run, and looks at what it leaves, besides the files that were unfinished before."""
    run.kill()
    run.assert_nothing_runs()
    step = load_newest(run.directory)
    assert step >= max([figures.last_step, *run.saved_steps]), run.last_lines
    cut_off = set(unfinished_files(run.directory)) - unfinished
    restored = figures.kills == 0 or 'restored ' in run.log
    return KillFigures(figures.kills + 1, figures.while_starting + (not restored),
                       figures.while_saving + bool(cut_off), step)


def _go_on_at_last(data: pathlib.Path, directory: pathlib.Path, step: int) -> int:
    with TrainingRun(data, directory, restore=True) as run:
        _await_restored(run, step)
        run.wait_for_save()
        run.process.terminate()
        assert run.wait_for_end() == 143, run.last_lines
    assert unfinished_files(directory) == []
    return load_newest(directory)
