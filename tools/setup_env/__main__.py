"""The command behind ``tools/setup_env.sh``: ``python -m tools.setup_env [--check]``."""

import argparse
import contextlib
import fcntl
import os
import sys
import time
from typing import Iterator

from tools.setup_env import __doc__ as purpose
from tools.setup_env.plan import ROOT, SetupError, is_ready, make_plan


def main() -> int:
    """Runs the command; returns its exit code."""
    options = _parse()
    try:
        plan = make_plan(options.interpreter)
        if options.check:
            return 0 if is_ready(plan) else 1
        with _lock() as lock:
            if not is_ready(plan):
                _complete(plan, lock)
            if options.horovod:
                _add_horovod(plan, lock)
            if options.tools:
                _add_tools(plan, lock)
            if options.fuzz:
                _add_fuzz(plan, lock)
        return 0
    except (SetupError, OSError) as error:
        print('error: %s' % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('error: set-up was interrupted; the next run begins it again', file=sys.stderr)
        return 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m tools.setup_env',
                                     description=purpose.split('\n', maxsplit=1)[0])
    parser.add_argument('--check', action='store_true',
                        help='change nothing; exit with 0 when .venv is ready, else with 1')
    parser.add_argument('--horovod', action='store_true',
                        help='add Horovod, for training with several processes')
    parser.add_argument('--tools', action='store_true',
                        help='add what exporting and the demo server use')
    parser.add_argument('--fuzz', action='store_true', help='add what the fuzz targets use')
    parser.add_argument('--interpreter', default='',
                        help='path of the Python that runs this, as it was found')
    return parser.parse_args()


def _complete(plan, lock: int) -> None:
    # Imported here because the check, which every command begins with, does without.
    from tools.setup_env.environment import Environment, say
    start = time.time()
    Environment(plan, lock).complete()
    say('done in %.0f seconds' % (time.time() - start))


def _add_horovod(plan, lock: int) -> None:
    from tools.setup_env import horovod
    from tools.setup_env.environment import Environment
    horovod.complete(Environment(plan, lock))


def _add_tools(plan, lock: int) -> None:
    from tools.setup_env import extras
    from tools.setup_env.environment import Environment
    extras.complete(Environment(plan, lock), 'tools')


def _add_fuzz(plan, lock: int) -> None:
    from tools.setup_env import extras
    from tools.setup_env.environment import Environment
    extras.try_to_complete(Environment(plan, lock), 'fuzz', 'fuzzing without Atheris')


@contextlib.contextmanager
def _lock() -> Iterator[int]:
    """Holds the project folder, so that two commands do not set up at once."""
    descriptor = os.open(str(ROOT), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('set-up: waiting for another one that is at work here', flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


if __name__ == '__main__':
    sys.exit(main())
