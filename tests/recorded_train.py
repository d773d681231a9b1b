r"""The real train.py, with a hook that writes down every step and may kill the process.

    python -m tests.recorded_train RECORD KILL_AFTER --training_data_path=... ...

RECORD gets a line of JSON a step: its number, its total loss and the names of its images. After
step KILL_AFTER, 0 for none, the process group gets SIGKILL.
"""

import functools
import json
import os
import runpy
import signal
import sys

from training import loop
from training.hooks import Hook

_SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'train.py')


class Recorder(Hook):
    """Writes down what a step was made of; the last of a process that is to be killed."""

    def __init__(self, path, kill_after):
        self._path, self._kill_after = path, kill_after

    def after_step(self, _, result):
        with open(self._path, 'a', encoding='utf-8') as file:
            file.write(json.dumps([result.step, float(result.values.scalars.total_loss),
                                   [os.path.basename(path) for path in result.batch.paths]]) + '\n')
        if result.step == self._kill_after:
            os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == '__main__':
    record, kill_after = sys.argv[1], int(sys.argv[2])
    loop.train = functools.partial(loop.train, hooks=[Recorder(record, kill_after)])
    sys.argv = [_SCRIPT, *sys.argv[3:]]
    runpy.run_path(_SCRIPT, run_name='__main__')
