"""How training runs differ: figures of their smoothed losses, as a table and as a picture."""

import csv
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from tools.curves import Scalars, draw_curve, new_figure, save_figure, smooth
from utils.errors import PSENetError
from utils.utils_tool import logger


class Gap(NamedTuple):
    """A smoothed curve minus that of the first run, where both have settled."""

    steps: np.ndarray   # int64 (N,), of this run
    values: np.ndarray  # float64 (N,)


class Compared(NamedTuple):
    """A run beside the first one."""

    name: str
    curve: Scalars
    smoothed: np.ndarray    # float64 (N,), at the points of the curve
    gap: Gap                # zero in the first run; empty where the two have no steps in common


class Figures(NamedTuple):
    """A row of the table; losses are of the smoothed curve, nan where there is nothing to tell."""

    run: str
    points: int
    first_step: int
    last_step: int
    final: float
    best: float
    best_step: int
    mean_gap: float
    largest_gap: float      # with its sign
    largest_gap_step: float
    steps_per_second: float


def compare(curves: Dict[str, Scalars], smoothing: float) -> List[Compared]:
    """Smooths all curves over the same number of steps, and takes the first from each.

    Args:
        curves: by the name of the run; at least one.
        smoothing: 0..1 (exclusive), weight of what came before from one point to the next in the
            run whose points lie farthest apart.

    Returns:
        The runs, in the same order.
    """
    spacing = max(_spacing(curve) for curve in curves.values())
    smoothed = {name: _smooth_by_steps(curve, smoothing, spacing)
                for name, curve in curves.items()}
    first = next(iter(curves))
    # A mean of few points is noise: gaps count once the weights add up to some points.
    settling = spacing / (1 - smoothing)
    return [Compared(name, curve, smoothed[name],
                     _gap(curve, smoothed[name], curves[first], smoothed[first], settling))
            for name, curve in curves.items()]


def _spacing(curve: Scalars) -> float:
    """Steps from one point to the next, usually."""
    return float(np.median(np.diff(curve.steps))) if len(curve.steps) > 1 else 1.0


def _smooth_by_steps(curve: Scalars, smoothing: float, spacing: float) -> np.ndarray:
    apart = np.diff(curve.steps, prepend=curve.steps[0] - spacing)
    return smooth(curve.values, smoothing ** (apart / spacing))


def _gap(curve: Scalars, smoothed: np.ndarray, first: Scalars, first_smoothed: np.ndarray,
         settling: float) -> Gap:
    low = max(curve.steps[0], first.steps[0])
    common = (curve.steps >= low) & (curve.steps <= first.steps[-1])
    settled = common & (curve.steps >= low + settling)
    # Short runs never settle; what there is must do.
    at = settled if settled.any() else common
    steps = curve.steps[at]
    return Gap(steps, smoothed[at] - np.interp(steps, first.steps, first_smoothed))


def figures_of(run: Compared) -> Figures:
    """The row of a run."""
    best, steps = int(np.argmin(run.smoothed)), run.curve.steps
    mean, largest, largest_step = np.nan, np.nan, np.nan
    if run.gap.steps.size:
        at = int(np.argmax(np.abs(run.gap.values)))
        mean, largest, largest_step = (
            run.gap.values.mean(), run.gap.values[at], run.gap.steps[at])
    return Figures(run.name, len(steps), steps[0], steps[-1], run.smoothed[-1], run.smoothed[best],
                   steps[best], mean, largest, largest_step, _steps_per_second(run.curve))


def _steps_per_second(curve: Scalars) -> float:
    """The median over the intervals, for the time between a stop and a restart is not training."""
    seconds = np.diff(curve.times)
    known = seconds > 0
    return float(np.median(np.diff(curve.steps)[known] / seconds[known])) if known.any() else np.nan


def format_table(runs: List[Compared]) -> str:
    """The figures as lines for a terminal; those of gaps against the first run."""
    rows = [('run', 'steps', 'points', 'final', 'best (at step)', 'mean gap',
             'largest gap (at step)', 'steps/s')]
    for index, figures in enumerate(map(figures_of, runs)):
        gaps = ('-', '-')
        if index and np.isfinite(figures.mean_gap):
            gaps = (f'{figures.mean_gap:+.4f}',
                    f'{figures.largest_gap:+.4f} ({figures.largest_gap_step})')
        rows.append((figures.run, f'{figures.first_step}..{figures.last_step}',
                     str(figures.points), f'{figures.final:.4f}',
                     f'{figures.best:.4f} ({figures.best_step})', *gaps,
                     f'{figures.steps_per_second:.2f}'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join([row[0].ljust(widths[0]), *(
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]) for row in rows)


def write_csv(runs: List[Compared], path: str) -> None:
    """Writes the figures with a line of names; what is not known is left empty.

    Raises:
        PSENetError: it cannot be written.
    """
    try:
        with open(path, 'w', encoding='utf-8', errors='backslashreplace', newline='') as stream:
            writer = csv.writer(stream)
            writer.writerow(Figures._fields)
            writer.writerows(map(_csv_row, map(figures_of, runs)))
    except OSError as error:
        raise PSENetError(f'Cannot write the table {path}: {error.strerror}.') from None


def _csv_row(figures: Figures) -> List[str]:
    return [figures.run] + ['' if np.isnan(value) else f'{value:.8g}' for value in figures[1:]]


def draw_comparison(runs: List[Compared], what: str, path: str) -> None:
    """Draws the curves, raw pale and smoothed strong, and below them the gaps to the first run.

    Args:
        runs: what to draw.
        what: name of the scalar.
        path: image file to write.

    Raises:
        PSENetError: it cannot be written.
    """
    names = picture_names([run.name for run in runs])
    figure = new_figure(9, 7)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={'height_ratios': [3, 1]})
    for index, run in enumerate(runs):
        draw_curve(above, run.curve, run.smoothed, f'C{index}', names[index])
        if index:
            below.plot(run.gap.steps, run.gap.values, color=f'C{index}', linewidth=1.5)
    below.axhline(0, color='C0', linewidth=1.5)
    above.set(title=f'{what.capitalize()}: {" vs ".join(names)}', ylabel=what,
              ylim=_limits(runs))
    below.set(xlabel='training step', ylabel=f'gap to {names[0]}')
    above.legend(title='strong: smoothed, pale: raw')
    for axes in (above, below):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def picture_names(names: Sequence[str]) -> List[str]:
    """What runs are called in the picture: a number instead of letters that its font lacks.

    A mark that matplotlib would take for a formula or for a name to hide stays a mark.
    """
    from matplotlib import font_manager

    letters = font_manager.get_font(
        font_manager.findfont(font_manager.FontProperties())).get_charmap()
    shown = []
    for number, name in enumerate(names, 1):
        drawable = all(ord(letter) in letters for letter in name)
        shown.append(name.replace('$', r'\$') if drawable else f'run {number}')
        if not drawable:
            logger.info('In the picture "%s" is called "run %d": the font lacks some of its '
                        'letters.', name, number)
    return [' ' + name if name.startswith('_') else name for name in shown]


def _limits(runs: List[Compared]) -> Tuple[float, float]:
    """From 0, or below all; up to what shows nearly all points: a few outliers must not rule."""
    raw = np.concatenate([run.curve.values for run in runs])
    top = max([np.percentile(raw, 99.5)] + [run.smoothed.max() for run in runs])
    bottom = min(0, raw.min())
    return bottom, bottom + 1.05 * (top - bottom or 1)
