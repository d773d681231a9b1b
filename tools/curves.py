"""Draws the losses of training runs, from their TensorBoard events, and compares them.

    python -m tools.curves --run=./resnet_train/ --out=curves.png
    python -m tools.curves --run=GPU=./gpu_run/ --run=NPU=./checkpoint/ --out=npu_gpu.png

A run is a checkpoint directory or an event file, with a name before it or without; also one of
another program, if it wrote the scalar. Of several runs the first is what the others are measured
against: a gap is the difference of two smoothed curves at the same step, in the steps that both
have. No TensorBoard server is needed, and a run that was restored goes on in the same curves.
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
from utils.utils_tool import logger

# Weight of what was before in a smoothed curve, as TensorBoard's slider has it.
SMOOTHING = 0.85
# What is drawn of one run.
TAGS = ('total_loss', 'model_loss')


class Scalars(NamedTuple):
    """A curve of N points; steps never come twice."""

    steps: np.ndarray   # int64 (N,) ascending
    values: np.ndarray  # float64 (N,), finite
    times: np.ndarray   # float64 (N,), seconds since 1970 at which each was written


def read_scalars(path: str, names: Sequence[str]) -> Dict[str, Scalars]:
    """Reads curves from the event files of a run.

    A run that was restarted goes back some steps: what the earlier part wrote from there on is
    dropped, so that the later one counts. Points that are not finite are left out, with a warning.

    Args:
        path: folder with ``events.out.tfevents.*`` files, or one such file.
        names: of the scalars. Name scopes and the numbers that TensorFlow appends to a name that is
            taken do not matter (``model_0/total_loss_1``), where there is no exact match.

    Returns:
        The curve by each of the names.

    Raises:
        PSENetError: there are no event files, or none with such a scalar.
    """
    events = _load_events(path)
    tags = {name: _find_tag(name, events.Tags()['scalars']) for name in names}
    missing = [name for name, tag in tags.items() if not tag]
    if missing:
        raise PSENetError(f'{path} holds no TensorBoard events with the scalars '
                          f'{", ".join(missing)}; name the checkpoint folder of a run, or an '
                          'events.out.tfevents file')
    return {name: _curve(path, events.Scalars(tag)) for name, tag in tags.items()}


def _load_events(path: str) -> Any:
    """An EventAccumulator that has read all that there is."""
    # Importing it takes seconds and brings TensorFlow along, which --help should not wait for.
    from tensorboard.backend.event_processing import event_accumulator

    if not os.path.isdir(path) and not (os.path.isfile(path) and 'tfevents' in path):
        raise PSENetError(f'"{path}" is neither a directory with TensorBoard events nor an '
                          'events.out.tfevents file; name the checkpoint folder of a run')
    if path != path.encode('utf-8', 'replace').decode('utf-8'):
        raise PSENetError(f'TensorFlow cannot open {path!a}, whose name is not UTF-8; rename it')
    logging.getLogger('tensorboard').setLevel(logging.WARNING)
    # Pictures would take memory, and are not asked for.
    return event_accumulator.EventAccumulator(path, size_guidance={
        event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 1}).Reload()


def _find_tag(name: str, tags: Sequence[str]) -> str:
    """The tag that is the name, or that TensorFlow has made of it; '' where there is none."""
    if name in tags:
        return name
    made = re.compile(rf'(.*/)?{re.escape(name)}(_\d+)?')
    found = sorted((tag for tag in tags if made.fullmatch(tag)),
                   key=lambda tag: (tag.count('/'), len(tag), tag))
    if found[1:]:
        logger.info('of the scalars %s, the first is taken', ', '.join(found))
    return found[0] if found else ''


def _curve(path: str, events: Sequence[Any]) -> Scalars:
    """A curve of what stands in the files, one after the other."""
    # TensorBoard drops what a restart has made void where the program marked it, as this project's
    # do; others only go back.
    kept: List[Any] = []
    for event in events:
        while kept and kept[-1].step >= event.step:
            kept.pop()
        kept.append(event)
    finite = [event for event in kept if np.isfinite(event.value)]
    if len(finite) < len(kept):
        logger.warning('%s: %d points that are not finite numbers are left out', path,
                       len(kept) - len(finite))
    if not finite:
        raise PSENetError(f'{path}: none of the {len(kept)} points is a finite number')
    return Scalars(np.array([event.step for event in finite], np.int64),
                   np.array([event.value for event in finite], np.float64),
                   np.array([event.wall_time for event in finite], np.float64))


def smooth(values: np.ndarray, weight: Union[float, np.ndarray] = SMOOTHING) -> np.ndarray:
    """Averages each value with those before it, the nearer the more; not biased at the start.

    Args:
        values: float (N,).
        weight: 0..1 (exclusive), share that what came before has; one for all, or (N,).

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
    """A matplotlib Figure of this size in inches, 120 pixels each, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, constrained_layout=True)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str) -> None:
    """Writes a figure in the format that the extension of the path names.

    Raises:
        PSENetError: it cannot be written, or there is no such format.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise PSENetError(f'cannot write the picture {path}: {error}') from None


def draw_curve(axes: Any, curve: Scalars, smoothed: np.ndarray, colour: str, label: str) -> None:
    """Draws a curve pale as it is and strong as smoothed.

    Args:
        axes: of matplotlib.
        curve: as it is.
        smoothed: float (N,), the same points.
        colour: of matplotlib.
        label: of the smoothed curve in the legend.
    """
    axes.plot(curve.steps, curve.values, color=colour, alpha=0.3, linewidth=1)
    axes.plot(curve.steps, smoothed, color=colour, linewidth=2, label=label)


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
            for run in runs:
                name, *values = figures_of(run)
                writer.writerow(
                    [name] + ['' if np.isnan(value) else f'{value:.8g}' for value in values])
    except OSError as error:
        raise PSENetError(f'cannot write the table {path}: {error.strerror}') from None


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
            logger.info('in the picture "%s" is called "run %d": the font lacks some of its '
                        'letters', name, number)
    return [' ' + name if name.startswith('_') else name for name in shown]


def _limits(runs: List[Compared]) -> Tuple[float, float]:
    """From 0, or below all; up to what shows nearly all points: a few outliers must not rule."""
    raw = np.concatenate([run.curve.values for run in runs])
    top = max([np.percentile(raw, 99.5)] + [run.smoothed.max() for run in runs])
    bottom = min(0, raw.min())
    return bottom, bottom + 1.05 * (top - bottom or 1)


def plot_loss(curves: Dict[str, Scalars], path: str) -> None:
    """Draws each curve pale as it is and strong as smoothed, and saves the figure.

    Args:
        curves: what to draw, by the name that goes into the legend.
        path: image file to write.
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
    """Tells the names from the paths.

    Args:
        arguments: ``path`` or ``name=path`` each; what exists as it stands is a path.

    Returns:
        Path by name; a path without a name is called by its last part.

    Raises:
        PSENetError: there is none, or two have one name.
    """
    if not arguments:
        raise PSENetError('--run is missing; name a checkpoint directory, --run=./resnet_train/, '
                          'once for each run to compare')
    runs: Dict[str, str] = {}
    for argument in arguments:
        name, equals, path = argument.partition('=')
        if not equals or os.path.exists(argument):
            path = os.path.expanduser(argument)
            name = os.path.basename(os.path.abspath(path))
        if name in runs:
            raise PSENetError(f'two runs are called "{name}"; give them names: '
                              f'--run=A={runs[name]} --run=B={path}')
        runs[name] = os.path.expanduser(path)
    return runs


def read_runs(runs: Dict[str, str], tag: str) -> Dict[str, Scalars]:
    """Reads a scalar of each run, path by name, behind a progress bar."""
    with logging_redirect_tqdm([logger]), tqdm(runs.items(), desc='reading', unit='run') as bar:
        return {name: read_scalars(path, [tag])[tag] for name, path in bar}


def define_curves_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('curves')
    flags.DEFINE_multi_string('run', [], 'Checkpoint directory or event file, or name=path; once '
                              'for each run, the one to measure against first.', **group)
    flags.DEFINE_string('tag', 'total_loss', 'Scalar to compare; name scopes before it and numbers '
                        'after it do not matter.', **group)
    flags.DEFINE_float('smoothing', 0.9, 'Weight of what came before in the smoothed curves of a '
                       "comparison, 0 .. 1, as TensorBoard's slider; from point to point of the "
                       'run whose points lie farthest apart, over as many steps in the others.',
                       0, 0.999, **group)
    cli.define_path('out', './curves.png', 'Image file to write.', **group)
    cli.define_path('csv', './curves.csv', 'Table of a comparison to write.', **group)


def main(_: List[str]) -> None:
    """Draws or compares the runs that the flags name."""
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
