"""A training in a process group of its own: its log, its readers, its checkpoints."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import List, NamedTuple, Optional

from training.checkpoints import open_checkpoint
from training.run_folder import find_checkpoints, step_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAVE_STEPS = 3
# A bound for what comes in seconds where nothing else runs.
PATIENCE_SECONDS = 400
# More than are ever taken; a run whose master was killed ends there.
_MAX_STEPS = 3000
_POLL_SECONDS = 0.1
_LAST_LINES = 30
_SAVED = r'saved .*-(\d+)$'
# Runs a program without CAP_DAC_OVERRIDE (prctl(2): PR_CAPBSET_DROP); for others than root it is of
# no effect, and not needed.
_WITHOUT_PRIVILEGE = ('import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); '
                      'os.execv(sys.argv[1], sys.argv[1:])')


class _Process(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int


def _processes() -> List[_Process]:
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent, _, session = path.read_text().rsplit(')', 1)[1].split()[:4]
        except OSError:
            continue
        found.append(_Process(int(path.parent.name), state, int(parent), int(session)))
    return found


class TrainingRun:
    """train.py at work; use it in a ``with``, whose end kills what is left.

    Args:
        data: directory with the training data.
        directory: of the checkpoints.
        obey_modes: whether the modes of files count, which root is otherwise free of.
        flags: of train.py, besides those for a small run.
    """

    def __init__(self, data: pathlib.Path, directory: pathlib.Path, obey_modes: bool = False,
                 **flags):
        self.directory = directory
        self._log = directory.with_suffix('.log')
        flags = {'gpu_list': '', 'training_data_path': data, 'checkpoint_path': directory,
                 'input_size': 64, 'batch_size_per_gpu': 2, 'num_readers': 2, 'seed': 3,
                 'save_checkpoint_steps': SAVE_STEPS, 'keep_checkpoints': 2,
                 'max_steps': _MAX_STEPS, **flags}
        command = [sys.executable, str(ROOT / 'train.py')]
        if obey_modes:
            command = [sys.executable, '-c', _WITHOUT_PRIVILEGE, *command]
        with open(str(self._log), 'wb') as log:
            self.process = subprocess.Popen(
                command + ['--%s=%s' % item for item in flags.items()], stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self) -> 'TrainingRun':
        return self

    def __exit__(self, *exc_info) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding='utf-8', errors='replace')

    @property
    def last_lines(self) -> str:
        """The end of that, for messages."""
        return '\n'.join(self.log.splitlines()[-_LAST_LINES:])

    @property
    def saved_steps(self) -> List[int]:
        """Steps of the checkpoints that the log says were saved."""
        return [int(step) for step in re.findall(_SAVED, self.log, re.MULTILINE)]

    @property
    def readers(self) -> List[int]:
        """Process ids of its readers."""
        return sorted(process.pid for process in _processes()
                      if process.parent == self.process.pid and process.state != 'Z')

    @property
    def survivors(self) -> List[int]:
        """Process ids of all that it has started and that still run."""
        return [process.pid for process in _processes()
                if process.session == self.process.pid and process.state != 'Z']

    def count(self, pattern: str) -> int:
        """How often the log has this."""
        return len(re.findall(pattern, self.log, re.MULTILINE))

    def wait_for(self, pattern: str, times: int = 1) -> float:
        """Waits until the log has this so often; returns the seconds that it took."""
        began = time.monotonic()
        while self.count(pattern) < times:
            assert self.process.poll() is None, 'it ended by itself:\n' + self.last_lines
            assert time.monotonic() - began < PATIENCE_SECONDS, (
                f'no "{pattern}" in:\n{self.last_lines}')
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def wait_for_save(self) -> float:
        """Waits until one more checkpoint is saved; returns the seconds that it took."""
        return self.wait_for(_SAVED, self.count(_SAVED) + 1)

    def wait_for_end(self) -> int:
        """Waits until it has ended; returns the exit code."""
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def assert_nothing_runs(self) -> None:
        """All processes are gone, or go within seconds."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.survivors:
            assert time.monotonic() < end, f'left over: {self.survivors}'
            time.sleep(_POLL_SECONDS)


def load_newest(directory: pathlib.Path) -> Optional[int]:
    """Reads all of a directory's newest listed checkpoint; returns its step, None without one."""
    if not (directory / 'checkpoint').exists():
        return None
    checkpoint = open_checkpoint(str(directory))
    for name in checkpoint.shapes:
        checkpoint.reader.get_tensor(name)
    step = checkpoint.global_step()
    assert step == step_of(checkpoint.prefix)
    return step


def unfinished_files(directory: pathlib.Path) -> List[str]:
    """Names of what was being written when a run was killed."""
    whole = [pathlib.Path(prefix).name + '.' for prefix in find_checkpoints(str(directory))]
    return sorted(path.name for path in directory.glob('model.ckpt-*')
                  if '.tempstate' in path.name or not path.name.startswith(tuple(whole)))


def remove(directory: pathlib.Path) -> None:
    """Removes a run's directory: 454 MB a checkpoint."""
    shutil.rmtree(str(directory), ignore_errors=True)
