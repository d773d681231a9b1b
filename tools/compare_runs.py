r"""Compares the losses of two or more training runs: a picture of the curves, and a table.

    python tools/compare_runs.py --run=GPU=./gpu_run/ --run=NPU=./checkpoint/ --out=npu_gpu.png

A run is a checkpoint folder or an event file, with a name before it or without; also one of another
program, if it wrote the scalar. The first run is what the others are measured against. A gap is the
difference of two smoothed curves at the same step, in the steps that both runs have.
"""

import os
import sys
from typing import Dict, List

from absl import flags
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tools.curves import Scalars, compare, draw_comparison, format_table, read_scalars, write_csv
from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger


def name_runs(arguments: List[str]) -> Dict[str, str]:
    """Tells the names from the paths.

    Args:
        arguments: ``path`` or ``name=path`` each; what exists as it stands is a path.

    Returns:
        Path by name; a path without a name is called by its last part.

    Raises:
        PSENetError: there are fewer than two, or two have one name.
    """
    if len(arguments) < 2:
        raise PSENetError('--run is needed at least twice, once a run: --run=GPU=./gpu_run/ '
                          '--run=NPU=./checkpoint/')
    runs: Dict[str, str] = {}
    for argument in arguments:
        name, equals, path = argument.partition('=')
        if not equals or os.path.exists(argument):
            path = os.path.expanduser(argument)
            name = os.path.basename(os.path.abspath(path))
        if name in runs:
            raise PSENetError(f'Two runs are called "{name}"; give them names: '
                              f'--run=A={runs[name]} --run=B={path}')
        runs[name] = os.path.expanduser(path)
    return runs


def read_runs(runs: Dict[str, str], tag: str) -> Dict[str, Scalars]:
    """Reads a scalar of each run, path by name, behind a progress bar."""
    with logging_redirect_tqdm([logger]), tqdm(runs.items(), desc='reading', unit='run') as bar:
        return {name: read_scalars(path, [tag])[tag] for name, path in bar}


def define_compare_runs_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('compare runs')
    flags.DEFINE_multi_string('run', [], 'Checkpoint folder or event file, or name=path; once for '
                              'each run, the one to measure against first.', **group)
    flags.DEFINE_string('tag', 'total_loss', 'Scalar to compare; name scopes before it and numbers '
                        'after it do not matter.', **group)
    flags.DEFINE_float('smoothing', 0.9, 'Weight of what came before in the smoothed curves, '
                       "0 .. 1, as TensorBoard's slider; from point to point of the run whose "
                       'points lie farthest apart, over as many steps in the others.', 0, 0.999,
                       **group)
    cli.define_path('out', './compare_runs.png', 'Image file to write.', **group)
    cli.define_path('csv', './compare_runs.csv', 'Table to write.', **group)


def main(_: List[str]) -> None:
    """Compares the runs that the flags name."""
    values = flags.FLAGS
    curves = read_runs(name_runs(values.run), values.tag)
    comparison = compare(curves, values.smoothing)
    cli.print_text(format_table(comparison))
    write_csv(comparison, values.csv)
    draw_comparison(comparison, values.tag.replace('_', ' '), values.out)
    logger.info('The curves are in %s and the table is in %s', values.out, values.csv)


if __name__ == '__main__':
    define_compare_runs_flags()
    cli.run(main, __doc__)
