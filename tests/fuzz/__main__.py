"""Runs every fuzz target for its share of the time and prints what came of it.

    make fuzz                       five minutes
    FUZZ_SECONDS=3600 make fuzz     an hour

Inputs that led to a finding are kept in ./fuzz. The exit code is 1 when there is one.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple, Tuple

from tests.fuzz.targets import TARGETS

_ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
_FINDINGS = os.path.join(_ROOT, 'fuzz')
_DEFAULT_SECONDS = 300
_IMAGES = 500
# The rest is for starting, building, and the images.
_SHARES = {'annotations': 0.15, 'formats': 0.2, 'archives': 0.1, 'result lines': 0.1,
           'parameters': 0.1, 'expansion': 0.2}
_LAST_LINES = 25


class Outcome(NamedTuple):
    """What came of a target."""

    inputs: int
    how: str
    found: bool


def commands(seconds: float) -> Dict[str, Tuple[List[str], Dict[str, str]]]:
    """What to run for each target, and what it finds in its environment besides.

    Args:
        seconds: for all of them together.

    Returns:
        By name of the target.
    """
    guided = {name: (['tests.fuzz.guided', name, str(_share(name, seconds)), _FINDINGS], {})
              for name in TARGETS}
    preload = ' '.join(_library(name) for name in ('libasan.so', 'libstdc++.so'))
    return {**guided,
            'images': (['tests.fuzz.images', str(_IMAGES)], {}),
            'expansion': (['tests.fuzz.expansion', str(_share('expansion', seconds))],
                          {'LD_PRELOAD': preload, 'ASAN_OPTIONS': 'detect_leaks=0'})}


def _share(name: str, seconds: float) -> int:
    return max(1, int(_SHARES[name] * seconds))


def _library(name: str) -> str:
    compiler = os.environ.get('CXX', 'g++').split()[0]
    printed = subprocess.run([compiler, f'-print-file-name={name}'], stdout=subprocess.PIPE,
                             check=True, text=True).stdout
    return printed.strip()


def run(command: List[str], environment: Dict[str, str]) -> Outcome:
    """Runs a target to its end.

    Args:
        command: module and arguments.
        environment: variables besides.

    Returns:
        What came of it; of a finding the last words are printed.
    """
    ended = subprocess.run([sys.executable, '-W', 'ignore', '-m', *command], cwd=_ROOT, text=True,
                           env={**os.environ, **environment}, stdout=subprocess.PIPE, check=False,
                           stderr=subprocess.STDOUT, errors='replace')
    if ended.returncode:
        print('\n'.join(ended.stdout.splitlines()[-_LAST_LINES:]))
        return Outcome(_executed(ended.stdout), f'exit code {ended.returncode}', True)
    last = ended.stdout.strip().splitlines()[-1]
    if last.startswith('{'):
        told = json.loads(last)
        return Outcome(told['inputs'], told['how'], False)
    return Outcome(_executed(ended.stdout), 'guided by coverage (Atheris)', False)


def _executed(printed: str) -> int:
    found = re.search(r'stat::number_of_executed_units:\s*(\d+)', printed)
    return int(found.group(1)) if found else 0


def _report(outcomes: Dict[str, Outcome], seconds: float) -> int:
    """Prints a line a target; returns how many findings there are."""
    print(f'\n{"target":14}{"inputs":>12}  findings  how')
    for name, outcome in outcomes.items():
        print(f'{name:14}{outcome.inputs:12,}  {outcome.found:8}  {outcome.how}')
    findings = sum(outcome.found for outcome in outcomes.values())
    inputs = sum(outcome.inputs for outcome in outcomes.values())
    print(f'{inputs:,} inputs in {seconds:.0f} s, {findings} findings'
          + (' (./fuzz)' if findings else ''))
    return findings


def main() -> int:
    """Runs all targets; returns the exit code."""
    seconds = float(os.environ.get('FUZZ_SECONDS') or _DEFAULT_SECONDS)
    os.makedirs(_FINDINGS, exist_ok=True)
    start, outcomes = time.monotonic(), {}
    # In memory where the system offers that: some targets write a file for each input.
    memory = '/dev/shm'  # noqa: S108 - the directory made there is the owner's alone
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as scratch:
        for name, (command, environment) in commands(seconds).items():
            print(f'{name} ...', flush=True)
            outcomes[name] = run(command, {**environment, 'TMPDIR': scratch})
    findings = _report(outcomes, time.monotonic() - start)
    return int(findings > 0)


if __name__ == '__main__':
    sys.exit(main())
