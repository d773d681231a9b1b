"""Draws the loss of a training run from its TensorBoard events.

    python tools/loss_curve.py --run=./resnet_train/ --out=loss_curve.png

Needs no TensorBoard server, so it also serves on a machine that has no browser.
"""

import logging
import os
import sys
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from absl import flags

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger

TAGS = ('total_loss', 'model_loss')
# Weight of what was before in the smoothed curve, as TensorBoard's slider has it.
_SMOOTHING = 0.85


class Scalars(NamedTuple):
    """A curve: ``steps`` int64 (N,) ascending, ``values`` float64 (N,)."""

    steps: np.ndarray
    values: np.ndarray


def read_scalars(run_folder: str, tags: Sequence[str] = TAGS) -> Dict[str, Scalars]:
    """Reads curves from all event files of a run; of a step written twice the later value counts.

    Args:
        run_folder: folder with ``events.out.tfevents.*`` files.
        tags: names of the scalars.

    Returns:
        the curve of every tag.

    Raises:
        PSENetError: the folder has no event files, or none with such a tag.
    """
    # Importing it takes seconds and brings TensorFlow along, which --help should not wait for.
    from tensorboard.backend.event_processing import event_accumulator

    logging.getLogger('tensorboard').setLevel(logging.WARNING)
    events = event_accumulator.EventAccumulator(
        run_folder, size_guidance={event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 1})
    try:
        events.Reload()
        found = {tag: events.Scalars(tag) for tag in tags}
    except (event_accumulator.directory_watcher.DirectoryDeletedError, KeyError):
        raise PSENetError(f'The folder {run_folder} holds no TensorBoard events with the scalars '
                          f'{", ".join(tags)}; name the checkpoint folder of a run.') from None
    return {tag: Scalars(np.array([event.step for event in found[tag]], np.int64),
                         np.array([event.value for event in found[tag]])) for tag in tags}


def smooth(values: np.ndarray, weight: float = _SMOOTHING) -> np.ndarray:
    """Averages each value with those before it, the nearer the more; not biased at the start.

    Args:
        values: float (N,).
        weight: 0..1 (exclusive), share that what came before has.

    Returns:
        float64 (N,).
    """
    total, mass, smoothed = 0.0, 0.0, []
    for value in values:
        total = weight * total + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        smoothed.append(total / mass)
    return np.array(smoothed)


def plot_loss(curves: Dict[str, Scalars], path: str) -> None:
    """Draws each curve pale as it is and strong as smoothed, and saves the figure.

    Args:
        curves: what to draw, by the name that goes into the legend.
        path: image file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    for index, (name, curve) in enumerate(curves.items()):
        colour = f'C{index}'
        axes.plot(curve.steps, curve.values, color=colour, alpha=0.3, linewidth=1)
        axes.plot(curve.steps, smooth(curve.values), color=colour, linewidth=2,
                  label=f'{name.replace("_", " ")}, smoothed')
    axes.set(xlabel='training step', ylabel='loss', title='Training loss', ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def define_loss_curve_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('loss curve')
    flags.DEFINE_string('run', './resnet_train/', 'Checkpoint folder of the run.', **group)
    flags.DEFINE_string('out', './loss_curve.png', 'Image file to write.', **group)


def main(_: List[str]) -> None:
    """Draws the run that the flags name."""
    plot_loss(read_scalars(flags.FLAGS.run), flags.FLAGS.out)
    logger.info('The loss curve is in %s', flags.FLAGS.out)


if __name__ == '__main__':
    define_loss_curve_flags()
    cli.run(main, __doc__)
