"""Benchmark cases: definition, measurement and report.

A case is measured in passes. Each pass runs the work once and then the baseline, if there is one,
so that other load on the machine affects both; a ratio is the median over the passes.
"""

import os
import pathlib
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np

# clock_getcpuclockid(3): processor time of all threads of a process.
_PROCESS_CLOCK = 2


def children() -> List[int]:
    """Lists the ids of this process's child processes."""
    return [int(path.parent.name) for path in pathlib.Path('/proc').glob('[0-9]*/stat')
            if _parent(path) == str(os.getpid())]


def _parent(stat: pathlib.Path) -> str:
    """Returns the parent's process id; '' if the process has ended."""
    try:
        return stat.read_text().rsplit(')', 1)[1].split()[1]
    except OSError:
        return ''


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sums the processor time of processes, in seconds."""
    return sum(time.clock_gettime(~pid << 3 | _PROCESS_CLOCK) for pid in pids)


def resident_mb(pids: Iterable[int]) -> float:
    """Sums the memory of processes in MB, counting shared pages once.

    Mapped files such as libraries are excluded: a process's share of them depends on the other
    programs that run.
    """
    kilobytes = 0
    for pid in pids:
        text = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
        sizes = dict(line.split()[:2] for line in text.splitlines()[1:])
        kilobytes += int(sizes['Pss_Anon:']) + int(sizes['Pss_Shmem:'])
    return kilobytes / 1024


class Sample(NamedTuple):
    """Times of one pass: seconds per unit of the work, and of the baseline if there is one."""

    seconds: float
    baseline_seconds: Optional[float] = None


class Target(NamedTuple):
    """A bound on a figure of a measurement.

    Attributes:
        figure: ``ratio``, ``median_ms`` or a name among the case's own figures.
        limit: upper bound of the figure, or its lower bound if ``at_least`` is set.
        at_least: whether larger values are better.
    """

    figure: str
    limit: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Returns True if a value of the figure is within the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


class Case(NamedTuple):
    """A benchmark case.

    Attributes:
        data: description of the data: '500 maps of ICDAR2015'.
        unit: unit of work that a sample's seconds refer to: 'map', 'image', 'step'.
        sample: runs one pass.
        passes: default number of measured passes, at least 1.
        warm_up: passes before the measured ones.
        baseline: name of the baseline; '' without one.
        by_rate: whether the ratio is that of the rates instead of the times.
        targets: targets of the case.
        figures: called after the last pass; returns further figures by name, which ends in the
            unit.
    """

    data: str
    unit: str
    sample: Callable[[], Sample]
    passes: int
    warm_up: int = 1
    baseline: str = ''
    by_rate: bool = False
    targets: Tuple[Target, ...] = ()
    figures: Callable[[], Dict[str, float]] = dict


class Measurement(NamedTuple):
    """Result of a case: times per unit in milliseconds.

    ``baseline`` and ``ratio`` are None for a case without a baseline. ``figures`` are the case's
    own figures; ``targets`` are its targets as dicts, with ``met``.
    """

    case: str
    data: str
    unit: str
    passes: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    per_second: float
    baseline: Optional[str]
    baseline_ms: Optional[float]
    ratio: Optional[float]
    figures: Dict[str, float]
    targets: List[Dict[str, Any]]


def measure(name: str, case: Case, passes: Optional[int] = None) -> Measurement:
    """Measures a case.

    Args:
        name: of the case.
        case: what to measure.
        passes: number of samples, at least 1; the case's own where None.

    Returns:
        The measurement.
    """
    passes = passes or case.passes
    samples = [case.sample() for _ in range(case.warm_up + passes)][case.warm_up:]
    times = np.array([sample.seconds for sample in samples]) * 1000
    low, median, high = np.percentile(times, [10, 50, 90]).tolist()
    figures = {'median_ms': median, **_against_baseline(case, samples), **case.figures()}
    own = {key: value for key, value in figures.items()
           if key not in ('median_ms', 'baseline_ms', 'ratio')}
    targets = [dict(target._asdict(), met=bool(target.is_met(figures[target.figure])))
               for target in case.targets]
    return Measurement(name, case.data, case.unit, passes, median, low, high, 1000 / median,
                       case.baseline or None, figures.get('baseline_ms'), figures.get('ratio'),
                       own, targets)


def _against_baseline(case: Case, samples: List[Sample]) -> Dict[str, float]:
    """Returns milliseconds per unit of the baseline and the ratio; {} without a baseline."""
    if not case.baseline:
        return {}
    times = np.array(samples, np.float64)
    ratios = times[:, 0] / times[:, 1]
    return {'baseline_ms': float(np.median(times[:, 1])) * 1000,
            'ratio': float(np.median(1 / ratios if case.by_rate else ratios))}


def timed_pass(work: Callable, inputs: Iterable, prepare: Callable = lambda each: each,
               clock: Callable[[], float] = time.perf_counter) -> float:
    """Times a function on every input.

    Args:
        work: function to measure.
        inputs: at least one input.
        prepare: converts an input to the argument of ``work``; not measured.
        clock: time.process_time excludes the time other programs run; it suits single-threaded
            work without a baseline.

    Returns:
        Seconds per input.
    """
    total, count = 0.0, 0
    for each in inputs:
        ready = prepare(each)
        start = clock()
        work(ready)
        total += clock() - start
        count += 1
    return total / count


def describe(result: Measurement) -> str:
    """Formats a measurement as one line of text."""
    parts = [f'{result.case:8} {_short(result.median_ms)} ms/{result.unit} '
             f'({_short(result.p10_ms)} to {_short(result.p90_ms)})',
             f'{_short(result.per_second)} {result.unit}s/s']
    if result.baseline:
        parts.append(f'{result.ratio:.2f}x {result.baseline} ({_short(result.baseline_ms)} ms)')
    parts += [f'{name} {_short(value)}' for name, value in result.figures.items()]
    parts += [_describe_target(target) for target in result.targets]
    return f'{", ".join(parts)} [{result.data}]'


def _describe_target(target: Dict[str, Any]) -> str:
    bound = 'at least' if target['at_least'] else 'at most'
    verdict = 'met' if target['met'] else 'MISSED'
    return f'target {target["figure"]} {bound} {target["limit"]:g}: {verdict}'


def _short(value: float) -> str:
    """Formats a number with three significant digits, or all digits before the point."""
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
