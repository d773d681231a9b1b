"""Faults other than a kill: signals, full disks, lost directories, readers, changing data."""

import os
import pathlib
import re
import resource
import shutil
import signal
import time
from typing import Callable, Dict, NamedTuple

from tests.soak.training_run import (
    SAVE_STEPS,
    TrainingRun,
    load_newest,
    remove,
    unfinished_files,
)

_REPLACED = r'a new process builds batch \d+'


class Place(NamedTuple):
    """Where faults happen; the runs of one directory go on from one another."""

    data: pathlib.Path
    directory: pathlib.Path


def ends_on_signal(place: Place, signum: int, exit_code: int) -> str:
    """A signal: saved, all processes gone, the exit code."""
    with _started(place) as run:
        run.wait_for_save()
        interval = run.wait_for_save()
        began = time.monotonic()
        run.process.send_signal(signum)
        assert run.wait_for_end() == exit_code, run.last_lines
        seconds = time.monotonic() - began
        run.assert_nothing_runs()
        assert load_newest(place.directory) == run.saved_steps[-1]
    return 'saved, exit code %d after %.1f s (%d steps and a save took %.1f s)' % (
        exit_code, seconds, SAVE_STEPS, interval)


def disk_full(place: Place) -> str:
    """A save that does not fit, as a file that may not grow."""
    with _started(place) as run:
        run.wait_for_save()
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (10 ** 8, 10 ** 8))
        return _ends_naming_the_folder(run, place.directory)


def folder_read_only(place: Place) -> str:
    """A directory that becomes read-only, and a start there."""
    try:
        with _started(place, obey_modes=True) as run:
            run.wait_for_save()
            place.directory.chmod(0o555)
            told = _ends_naming_the_folder(run, place.directory)
        with _started(place, obey_modes=True) as run:
            assert run.wait_for_end() == 1, run.last_lines
            assert f'--checkpoint_path={place.directory} cannot be written' in run.log
    finally:
        place.directory.chmod(0o755)
    return told + '; a start there is refused'


def folder_gone(place: Place) -> str:
    """A directory that is moved away; it is put back."""
    moved = place.directory.with_name('moved')
    with _started(place) as run:
        run.wait_for_save()
        place.directory.rename(moved)
        assert run.wait_for_end() == 1, run.last_lines
        last = run.log.splitlines()[-1]
        assert f'cannot be written to {place.directory}: the directory no longer' in last, last
    remove(place.directory)
    moved.rename(place.directory)
    return f'error that names it; step {load_newest(place.directory)} intact'


def unlucky_run(place: Place) -> Dict[str, str]:
    """One run on data of its own that meets with all the faults that it can go on after."""
    data = place.directory.with_name('changing')
    shutil.copytree(str(place.data), str(data))
    figures = {}
    with TrainingRun(data, place.directory.with_name('unlucky')) as run:
        run.wait_for_save()
        figures['second training'] = _second_training(run, data)
        figures['reader killed'] = _strike_reader(run, signal.SIGKILL)
        figures['reader stuck'] = _strike_reader(run, signal.SIGSTOP)
        figures['data that change'] = _change_data(run, data)
        figures['data that vanish'] = _end_data(run, data)
    remove(run.directory)
    return figures


# Each goes on where the one before has ended.
FAULTS: Dict[str, Callable[[Place], str]] = {
    'SIGTERM': lambda place: ends_on_signal(place, signal.SIGTERM, 143),
    'Ctrl-C': lambda place: ends_on_signal(place, signal.SIGINT, 130),
    'disk full': disk_full,
    'directory read-only': folder_read_only,
    'directory gone': folder_gone,
}


def _started(place: Place, obey_modes: bool = False) -> TrainingRun:
    return TrainingRun(place.data, place.directory, obey_modes, restore=place.directory.exists())


def _ends_naming_the_folder(run: TrainingRun, directory: pathlib.Path) -> str:
    assert run.wait_for_end() == 1, run.last_lines
    assert f'cannot be written to {directory} (' in run.log.splitlines()[-1], run.last_lines
    assert 'Traceback' not in run.log
    run.assert_nothing_runs()
    step = load_newest(directory)
    assert step == run.saved_steps[-1]
    assert unfinished_files(directory) == []
    return f'error that names the directory; step {step} intact'


def _second_training(run: TrainingRun, data: pathlib.Path) -> str:
    with TrainingRun(data, run.directory.with_suffix('.second'), restore=True,
                     checkpoint_path=run.directory) as second:
        assert second.wait_for_end() == 1, second.last_lines
        assert f'is in use by another training run (process {run.process.pid}' in second.log
    return 'refused'


def _strike_reader(run: TrainingRun, signum: int) -> str:
    replaced = run.count(_REPLACED)
    reader = run.readers[0]
    os.kill(reader, signum)
    seconds = run.wait_for(_REPLACED, replaced + 1)
    assert f'(id {reader})' in run.log
    run.wait_for_save()
    assert reader not in run.readers
    assert len(run.readers) == 2
    return f'replaced after {seconds:.0f} s'


def _change_data(run: TrainingRun, data: pathlib.Path) -> str:
    (data / 'img_2.jpg').unlink()
    os.truncate(str(data / 'img_5.jpg'), 200)
    (data / 'gt_img_7.txt').write_text('no numbers')
    for name in ('img_2.jpg', 'img_5.jpg'):
        run.wait_for(re.escape(name) + '.*skipped')
    run.wait_for_save()
    return 'an image gone, one cut off, labels invalid: named, trained on'


def _end_data(run: TrainingRun, data: pathlib.Path) -> str:
    for path in sorted(data.glob('*.jpg'))[3:]:
        path.unlink()
    assert run.wait_for_end() == 1, run.last_lines
    last = run.log.splitlines()[-1]
    assert re.search(r'error: (\d+ of the last \d+|too few) images.* usable images', last), last
    assert load_newest(run.directory) == run.saved_steps[-1]
    return 'more than half: saved, stopped with the counts'
