"""Curves of training runs: read from TensorBoard's event files, smoothed, and drawn.

Shared by the commands that show losses. Needs no TensorBoard server.
"""

import logging
import os
import re
from typing import Any, Dict, List, NamedTuple, Sequence, Union

import numpy as np

from utils.errors import PSENetError
from utils.utils_tool import logger

# Weight of what was before in a smoothed curve, as TensorBoard's slider has it.
SMOOTHING = 0.85


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
                          'events.out.tfevents file.')
    return {name: _curve(path, events.Scalars(tag)) for name, tag in tags.items()}


def _load_events(path: str) -> Any:
    """An EventAccumulator that has read all that there is."""
    # Importing it takes seconds and brings TensorFlow along, which --help should not wait for.
    from tensorboard.backend.event_processing import event_accumulator

    if not os.path.isdir(path) and not (os.path.isfile(path) and 'tfevents' in path):
        raise PSENetError(f'"{path}" is no folder with TensorBoard events and no '
                          'events.out.tfevents file; name the checkpoint folder of a run.')
    if path != path.encode('utf-8', 'replace').decode('utf-8'):
        raise PSENetError(f'TensorFlow cannot open {path!a}, whose name is not UTF-8; rename it.')
    logging.getLogger('tensorboard').setLevel(logging.WARNING)
    # Pictures would take memory, and are not asked for.
    return event_accumulator.EventAccumulator(path, size_guidance={
        event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 1}).Reload()


def _find_tag(name: str, tags: Sequence[str]) -> str:
    """The tag that is the name, or that TensorFlow has made of it; '' where there is none."""
    if name in tags:
        return name
    made = re.compile(r'(.*/)?%s(_\d+)?' % re.escape(name))
    found = sorted((tag for tag in tags if made.fullmatch(tag)),
                   key=lambda tag: (tag.count('/'), len(tag), tag))
    if found[1:]:
        logger.info('Of the scalars %s, the first is taken.', ', '.join(found))
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
        raise PSENetError(f'{path}: none of the {len(kept)} points is a finite number.')
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
        raise PSENetError(f'Cannot write the picture {path}: {error}.') from None


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
