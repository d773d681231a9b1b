"""Kills and disturbs a training run, and prints what it survived.

    make soak                       30 kills and all faults; 20 minutes at most
    SOAK_SECONDS=300 make soak      as many kills as fit

The exit code is 1 when something did not hold. It needs 2 GB in the directory for temporary files
(TMPDIR).
"""

import os
import pathlib
import sys
import tempfile
import time
from typing import Dict

from tests.soak.faults import FAULTS, Place, unlucky_run
from tests.soak.kills import kill_and_go_on
from tests.soak.training_run import remove
from tools.demo_data import DatasetSpec, ensure_dataset
from tools.phases import interrupt_on_termination

KILLS = 30
SEED = 20
DATA = DatasetSpec(train_images=12, test_images=1, size=96)
_DEFAULT_SECONDS = 1200
# For the last run to go on and to end.
_RESERVED_SECONDS = 60


def soak(directory: pathlib.Path, seconds: float) -> Dict[str, str]:
    """Does all of it.

    Args:
        directory: for data and checkpoints.
        seconds: that it may take.

    Returns:
        What came of each fault, for people.

    Raises:
        AssertionError: something did not hold.
    """
    end = time.monotonic() + seconds - _RESERVED_SECONDS
    ensure_dataset(str(directory / 'data'), DATA)
    place = Place(directory / 'data' / 'train', directory / 'run')
    figures = {}
    for name, happen in FAULTS.items():
        figures[name] = _told(name, happen(place))
    figures.update({name: _told(name, told) for name, told in unlucky_run(place).items()})
    remove(place.directory)
    killed = kill_and_go_on(place.data, directory / 'killed', KILLS, SEED, end - time.monotonic())
    figures['SIGKILL'] = _told('SIGKILL', '%s%s' % (
        killed, '' if killed.kills == KILLS else f'; the time was up before all {KILLS}'))
    return figures


def _told(name: str, told: str) -> str:
    print(f'{name:21}{told}', flush=True)
    return told


def main() -> int:
    """Runs it; returns the exit code."""
    seconds, began = float(os.environ.get('SOAK_SECONDS') or _DEFAULT_SECONDS), time.monotonic()
    with tempfile.TemporaryDirectory(prefix='psenet_soak_') as directory:
        try:
            figures = soak(pathlib.Path(directory), seconds)
        except AssertionError as error:
            print(f'\nThis did not hold: {error}')
            return 1
    print(f'{len(figures) - 1} faults besides kills survived; {time.monotonic() - began:.0f} s')
    return 0


if __name__ == '__main__':
    interrupt_on_termination()
    sys.exit(main())
