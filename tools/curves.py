"""Plots the losses of training runs from their TensorBoard events, and compares runs.

    python -m tools.curves --run=./resnet_train/ --out=curves.png
    python -m tools.curves --run=GPU=./gpu_run/ --run=NPU=./checkpoint/ --out=npu_gpu.png

A run is a checkpoint directory or an event file, with or without a name before it; runs of other
programs work too if they wrote the scalar. The first run is the baseline: a gap is the difference
between the smoothed curves of a run and of the baseline at the same step, over the steps that both
have. No TensorBoard server is needed, and a restored run continues its curves.
"""

import csv
import logging
import os
import re
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from absl import flags
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from utils import cli
from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import logger

# Weight of the preceding points in a smoothed curve, as in TensorBoard's slider.
SMOOTHING = 0.85
# Scalars that are plotted for a single run.
TAGS = ('total_loss', 'model_loss')


class Scalars(NamedTuple):
    """A curve of N points with distinct steps."""

    steps: np.ndarray   # int64 (N,), ascending
    values: np.ndarray  # float64 (N,), finite
    times: np.ndarray   # float64 (N,), time of writing in seconds since 1970


def read_scalars(path: str, names: Sequence[str]) -> Dict[str, Scalars]:
    """Reads curves from the event files of a run.

    Where a restarted run repeats steps, the later points replace the earlier ones. Points that are
    not finite are dropped with a warning.

    Args:
        path: directory with ``events.out.tfevents.*`` files, or one such file.
        names: names of the scalars. Without an exact match, name scopes and numeric suffixes from
            TensorFlow are ignored (``model_0/total_loss_1``).

    Returns:
        Name -> curve.

    Raises:
        PSENetError: event files are missing, or none of them has such a scalar.
    """
    events = _load_events(path)
    tags = {name: _find_tag(name, events.Tags()['scalars']) for name in names}
    missing = [name for name, tag in tags.items() if not tag]
    if missing:
        raise PSENetError(f'{path} holds no TensorBoard events with the scalars '
                          f'{", ".join(missing)}; name the checkpoint directory of a run, or an '
                          'events.out.tfevents file')
    return {name: _curve(path, events.Scalars(tag)) for name, tag in tags.items()}


def _load_events(path: str) -> Any:
    """Returns an EventAccumulator with all events loaded."""
    # The import takes seconds, as it loads TensorFlow; --help should not wait for it.
    from tensorboard.backend.event_processing import event_accumulator

    if not os.path.isdir(path) and not (os.path.isfile(path) and 'tfevents' in path):
        raise PSENetError(f'"{path}" is neither a directory with TensorBoard events nor an '
                          'events.out.tfevents file; name the checkpoint directory of a run')
    if path != path.encode('utf-8', 'replace').decode('utf-8'):
        raise PSENetError(f'TensorFlow cannot open {path!a}, whose name is not UTF-8; rename it')
    logging.getLogger('tensorboard').setLevel(logging.WARNING)
    # Images are not needed and would take memory.
    return event_accumulator.EventAccumulator(path, size_guidance={
        event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 1}).Reload()


def _find_tag(name: str, tags: Sequence[str]) -> str:
    """Returns the tag with this name, or one derived from it by TensorFlow; '' if none exists."""
    if name in tags:
        return name
    made = re.compile(rf'(.*/)?{re.escape(name)}(_\d+)?')
    found = sorted((tag for tag in tags if made.fullmatch(tag)),
                   key=lambda tag: (tag.count('/'), len(tag), tag))
    if found[1:]:
        logger.info('using the first of the scalars %s', ', '.join(found))
    return found[0] if found else ''


def _curve(path: str, events: Sequence[Any]) -> Scalars:
    """Builds a curve from events in the order in which they were written."""
    # TensorBoard drops superseded events only if the program marked the restart, as this project's
    # programs do.
    kept: List[Any] = []
    for event in events:
        while kept and kept[-1].step >= event.step:
            kept.pop()
        kept.append(event)
    finite = [event for event in kept if np.isfinite(event.value)]
    if len(finite) < len(kept):
        logger.warning('%s: %d points are not finite numbers and are dropped', path,
                       len(kept) - len(finite))
    if not finite:
        raise PSENetError(f'{path}: none of the {len(kept)} points is a finite number')
    return Scalars(np.array([event.step for event in finite], np.int64),
                   np.array([event.value for event in finite], np.float64),
                   np.array([event.wall_time for event in finite], np.float64))


def smooth(values: np.ndarray, weight: Union[float, np.ndarray] = SMOOTHING) -> np.ndarray:
    """Computes an exponential moving average without bias at the start.

    Args:
        values: float (N,).
        weight: weight of the preceding values, 0 to below 1; a scalar or (N,).

    Returns:
        float64 (N,).
    """
    total, mass, smoothed = 0.0, 0.0, []
    for value, before in zip(values, np.broadcast_to(weight, len(values))):
        total = before * total + (1 - before) * value
        mass = before * mass + (1 - before)
        smoothed.append(total / mass)
    return np.array(smoothed)


def new_figure(width: float, height: float) -> Any:
    """Creates a matplotlib Figure of this size in inches, at 120 dpi, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, constrained_layout=True)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str) -> None:
    """Writes a figure atomically, in the format given by the extension of the path.

    Raises:
        PSENetError: the file cannot be written, or the format is unknown.
    """
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=os.path.splitext(path)[1][1:] or 'png')
    except ValueError as error:
        raise PSENetError(f'cannot write {path}: {error}') from None


def draw_curve(axes: Any, curve: Scalars, smoothed: np.ndarray, colour: str, label: str) -> None:
    """Draws a curve in a pale colour and its smoothed version in a strong one.

    Args:
        axes: matplotlib axes.
        curve: the raw curve.
        smoothed: float (N,), smoothed values at the same points.
        colour: matplotlib colour.
        label: legend of the smoothed curve.
    """
    axes.plot(curve.steps, curve.values, color=colour, alpha=0.3, linewidth=1)
    axes.plot(curve.steps, smoothed, color=colour, linewidth=2, label=label)


class Gap(NamedTuple):
    """A smoothed curve minus that of the first run, where both are settled."""

    steps: np.ndarray   # int64 (N,), steps of this run
    values: np.ndarray  # float64 (N,)


class Compared(NamedTuple):
    """A run and its comparison with the first one."""

    name: str
    curve: Scalars
    smoothed: np.ndarray    # float64 (N,), at the points of the curve
    gap: Gap                # zero for the first run; empty without common steps


class Figures(NamedTuple):
    """A row of the table; losses are those of the smoothed curve; nan if unknown."""

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
    """Smooths all curves over the same number of steps, and computes the gaps to the first.

    Args:
        curves: run name -> curve; at least one.
        smoothing: weight of the preceding points, 0 to below 1, from point to point of the run with
            the widest spacing.

    Returns:
        The runs, in the same order.
    """
    # The median number of steps between points.
    spacing = max(float(np.median(np.diff(curve.steps))) if len(curve.steps) > 1 else 1.0
                  for curve in curves.values())
    smoothed = {name: smooth(curve.values, smoothing ** (
        np.diff(curve.steps, prepend=curve.steps[0] - spacing) / spacing))
                for name, curve in curves.items()}
    first = next(iter(curves))
    # Means of few points are noise: gaps count once the weights cover several points.
    settling = spacing / (1 - smoothing)
    return [Compared(name, curve, smoothed[name],
                     _gap(curve, smoothed[name], curves[first], smoothed[first], settling))
            for name, curve in curves.items()]




def _gap(curve: Scalars, smoothed: np.ndarray, first: Scalars, first_smoothed: np.ndarray,
         settling: float) -> Gap:
    low = max(curve.steps[0], first.steps[0])
    common = (curve.steps >= low) & (curve.steps <= first.steps[-1])
    settled = common & (curve.steps >= low + settling)
    # Short runs never settle; use all common steps.
    at = settled if settled.any() else common
    steps = curve.steps[at]
    return Gap(steps, smoothed[at] - np.interp(steps, first.steps, first_smoothed))


def figures_of(run: Compared) -> Figures:
    """Computes a run's row of the table."""
    best, steps = int(np.argmin(run.smoothed)), run.curve.steps
    mean, largest, largest_step = np.nan, np.nan, np.nan
    if run.gap.steps.size:
        at = int(np.argmax(np.abs(run.gap.values)))
        mean, largest, largest_step = (
            run.gap.values.mean(), run.gap.values[at], run.gap.steps[at])
    return Figures(run.name, len(steps), steps[0], steps[-1], run.smoothed[-1], run.smoothed[best],
                   steps[best], mean, largest, largest_step, _steps_per_second(run.curve))


def _steps_per_second(curve: Scalars) -> float:
    """Returns the median over the intervals, to exclude the time between a stop and a restart."""
    seconds = np.diff(curve.times)
    known = seconds > 0
    return float(np.median(np.diff(curve.steps)[known] / seconds[known])) if known.any() else np.nan


def format_table(runs: List[Compared]) -> str:
    """Formats the table for a terminal; gaps are those to the first run."""
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
    """Writes the table as CSV with a header; unknown values are empty.

    Raises:
        PSENetError: the file cannot be written.
    """
    with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8', newline='',
                                            errors='backslashreplace') as stream:
        writer = csv.writer(stream)
        writer.writerow(Figures._fields)
        for run in runs:
            name, *values = figures_of(run)
            writer.writerow(
                [name] + ['' if np.isnan(value) else f'{value:.8g}' for value in values])


def draw_comparison(runs: List[Compared], what: str, path: str) -> None:
    """Draws the raw and smoothed curves, and below them the gaps to the first run.

    Args:
        runs: runs to draw.
        what: name of the scalar.
        path: image file to write.

    Raises:
        PSENetError: the file cannot be written.
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
    """Converts run names to labels that matplotlib can draw.

    Names with characters that the font lacks become numbers; characters with a special meaning for
    matplotlib ($, a leading _) are escaped.
    """
    from matplotlib import font_manager

    letters = font_manager.get_font(
        font_manager.findfont(font_manager.FontProperties())).get_charmap()
    shown = []
    for number, name in enumerate(names, 1):
        drawable = all(ord(letter) in letters for letter in name)
        shown.append(name.replace('$', r'\$') if drawable else f'run {number}')
        if not drawable:
            logger.info('the image shows "%s" as "run %d": the font lacks some of its characters',
                        name, number)
    return [' ' + name if name.startswith('_') else name for name in shown]


def _limits(runs: List[Compared]) -> Tuple[float, float]:
    """Chooses the range of the y axis, from 0 or below, so that it excludes a few outliers."""
    raw = np.concatenate([run.curve.values for run in runs])
    top = max([np.percentile(raw, 99.5)] + [run.smoothed.max() for run in runs])
    bottom = min(0, raw.min())
    return bottom, bottom + 1.05 * (top - bottom or 1)


def plot_loss(curves: Dict[str, Scalars], path: str) -> None:
    """Draws the raw and smoothed curves of one run.

    Args:
        curves: scalar name -> curve.
        path: image file to write.

    Raises:
        PSENetError: the file cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot(1, 1, 1)
    for index, (name, curve) in enumerate(curves.items()):
        draw_curve(axes, curve, smooth(curve.values), f'C{index}',
                   f'{name.replace("_", " ")}, smoothed')
    axes.set(xlabel='training step', ylabel='loss', title='Training loss', ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def name_runs(arguments: List[str]) -> Dict[str, str]:
    """Parses the values of --run.

    Args:
        arguments: ``path`` or ``name=path`` each; an existing path is taken as a whole.

    Returns:
        Name -> path; the default name is the last component of the path.

    Raises:
        PSENetError: no run is given, or two have the same name.
    """
    if not arguments:
        raise PSENetError('--run is missing; give a checkpoint directory, --run=./resnet_train/, '
                          'once for each run to compare')
    runs: Dict[str, str] = {}
    for argument in arguments:
        name, equals, path = argument.partition('=')
        if not equals or os.path.exists(argument):
            path = os.path.expanduser(argument)
            name = os.path.basename(os.path.abspath(path))
        if name in runs:
            raise PSENetError(f'two runs are named "{name}"; give them different names: '
                              f'--run=A={runs[name]} --run=B={path}')
        runs[name] = os.path.expanduser(path)
    return runs


def read_runs(runs: Dict[str, str], tag: str) -> Dict[str, Scalars]:
    """Reads a scalar of each run, given as name -> path, with a progress bar."""
    with logging_redirect_tqdm([logger]), tqdm(runs.items(), desc='reading', unit='run') as bar:
        return {name: read_scalars(path, [tag])[tag] for name, path in bar}


def define_curves_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('curves')
    flags.DEFINE_multi_string('run', [], 'Checkpoint directory or event file, or name=path; once '
                              'for each run, the baseline first.', **group)
    flags.DEFINE_string('tag', 'total_loss', 'Scalar to compare; name scopes and numeric suffixes '
                        'are ignored.', **group)
    flags.DEFINE_float('smoothing', 0.9, 'Smoothing of a comparison, 0 .. 1, as of TensorBoard: '
                       'weight of the preceding points, from point to point of the run with the '
                       'widest spacing and over as many steps in the others.', 0, 0.999, **group)
    cli.define_path('out', './curves.png', 'Image file to write.', **group)
    cli.define_path('csv', './curves.csv', 'Table to write for a comparison.', **group)


def main(_: List[str]) -> None:
    """Plots or compares the runs that the flags name."""
    values = flags.FLAGS
    runs = name_runs(values.run)
    if len(runs) == 1:
        path, = runs.values()
        plot_loss(read_scalars(path, TAGS), values.out)
        logger.info('the curves are in %s', values.out)
        return
    comparison = compare(read_runs(runs, values.tag), values.smoothing)
    cli.print_text(format_table(comparison))
    write_csv(comparison, values.csv)
    draw_comparison(comparison, values.tag.replace('_', ' '), values.out)
    logger.info('the curves are in %s and the table is in %s', values.out, values.csv)


if __name__ == '__main__':
    define_curves_flags()
    cli.run(main, __doc__)
