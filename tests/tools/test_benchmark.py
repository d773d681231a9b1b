"""The benchmark: its samples, and the command as a person runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tools import benchmark


def run(project_root, *arguments):
    return subprocess.run([sys.executable, 'tools/benchmark.py', *arguments], cwd=str(project_root),
                          capture_output=True, text=True, check=False)


def test_measures_every_case(project_root):
    result = run(project_root, '--passes=2', '--json')
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line['case'] for line in lines} >= {'pse', 'detect'}
    for line in lines:
        assert 0 < line['p10_ms'] <= line['median_ms'] <= line['p90_ms']
        assert line['ratio'] == pytest.approx(line['median_ms'] / line['yardstick_ms'])


def test_prints_a_line_for_people(project_root):
    result = run(project_root, '--passes=1', '--case=pse')
    assert result.stdout.startswith('pse ')
    assert 'x cv2.connectedComponents' in result.stdout


def test_unknown_case_is_an_error(project_root):
    result = run(project_root, '--case=nonsense')
    assert result.returncode == 1
    assert '--case=nonsense is unknown; there are detect, pse' in result.stderr


def test_every_map_is_worked_on_in_every_pass():
    seen = []
    case = benchmark.Case([1, 2], seen.append, [np.zeros((2, 2), np.uint8)] * 2)
    result = benchmark.measure('counting', case, passes=3)
    assert seen == [1, 2] * 5
    assert result.maps_per_second == pytest.approx(1000 / result.median_ms)
