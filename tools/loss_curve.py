"""Draws the loss of a training run from its TensorBoard events.

    python tools/loss_curve.py --run=./resnet_train/ --out=loss_curve.png

Needs no TensorBoard server, so it also serves on a machine that has no browser.
"""

import os
import sys
from typing import Dict, List

from absl import flags

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tools.curves import Scalars, draw_curve, new_figure, read_scalars, save_figure, smooth
from utils import cli
from utils.utils_tool import logger

TAGS = ('total_loss', 'model_loss')


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


def define_loss_curve_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('loss curve')
    cli.define_path('run', './resnet_train/', 'Checkpoint folder of the run.', **group)
    cli.define_path('out', './loss_curve.png', 'Image file to write.', **group)


def main(_: List[str]) -> None:
    """Draws the run that the flags name."""
    plot_loss(read_scalars(flags.FLAGS.run, TAGS), flags.FLAGS.out)
    logger.info('The loss curve is in %s', flags.FLAGS.out)


if __name__ == '__main__':
    define_loss_curve_flags()
    cli.run(main, __doc__)
