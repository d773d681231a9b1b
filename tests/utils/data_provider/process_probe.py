"""What tests of worker processes share: looking at processes, and batches that misbehave.

Workers import this module to unpickle what is defined here.
"""

import os
import pathlib
import time

from utils.data_provider.batching import BatchLayout, BatchReport

LAYOUT = BatchLayout(batch_size=2, input_size=32)


def wait_until(condition, seconds=10):
    """Whether the condition comes true within this time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        status = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    return status.rsplit(')', 1)[1].split()[0] != 'Z'


def children(parent=None):
    """Process ids of the children, zombies included."""
    parent = parent or os.getpid()
    found = set()
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rsplit(')', 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.add(int(path.parent.name))
    return found


def make_batch(number, arrays):
    """A batch whose arrays all hold its number."""
    for array in arrays:
        array[:] = number % 256
    report = BatchReport()
    report.indices.append(number)
    return report


class Failing:
    """Raises at one batch."""

    def __init__(self, at):
        self.at = at

    def __call__(self, number, arrays):
        if number == self.at:
            raise ZeroDivisionError(f'batch {number} is cursed')
        return make_batch(number, arrays)


class Exiting:
    """Ends the process at one batch."""

    def __init__(self, at, code):
        self.at, self.code = at, code

    def __call__(self, number, arrays):
        if number == self.at:
            os._exit(self.code)
        return make_batch(number, arrays)


class Sleeping:
    """Never gets done with a batch from this number on."""

    def __init__(self, since=0):
        self.since = since

    def __call__(self, number, arrays):
        if number >= self.since:
            time.sleep(1000)
        return make_batch(number, arrays)


class Leaving:
    """Leaves a file for each batch that it makes."""

    def __init__(self, directory):
        self.directory = str(directory)

    def __call__(self, number, arrays):
        pathlib.Path(self.directory, str(number)).touch()
        return make_batch(number, arrays)


class Struck:
    """Sends its own process a signal in the middle of some batches, as often as there are files."""

    def __init__(self, directory, signum, at):
        self.directory, self.signum, self.at = str(directory), signum, at

    def __call__(self, number, arrays):
        marks = sorted(pathlib.Path(self.directory).iterdir()) if number in self.at else []
        if marks:
            marks[0].unlink()
            arrays.images[:] = 255
            os.kill(os.getpid(), self.signum)
            time.sleep(1000)
        return make_batch(number, arrays)


class Busy:
    """Computes for seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, number, arrays):
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        return make_batch(number, arrays)
