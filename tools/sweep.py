"""Finds the post-processing thresholds that score best on images with ground truth.

    python -m tools.sweep --test_data_path=... --gt=gt.zip --checkpoint_path=./resnet_train/
    python -m tools.sweep ... --write       also makes eval.py use the best with this checkpoint

The network runs once per size. Then every combination of the values is scored as by eval.sh. In
--output_dir, sweep.csv has one line per combination, and sweep.png shows those of the best size.
"""

import csv
import os
import tempfile
from typing import Callable, List, Sequence

from absl import flags

from evaluation.report import Score
from inference import config as detect_config
from inference.detector import open_detector
from inference.folder import image_reader
from inference.networks import Platform
from inference.results import make_folder
from inference.thresholds import Thresholds, write_thresholds
from tools.scoring.grid import (
    Grid,
    Levels,
    Row,
    Task,
    best_of,
    draw_heat_map,
    score_grid,
    store_maps,
    usable_cores,
)
from tools.scoring.validation import Validation, define_ground_truth_flag, open_validation
from utils import cli
from utils.errors import PSENetError
from utils.files import replacing
from utils.tf_env import configure_tensorflow, define_gpu_flag
from utils.utils_tool import logger


def define_sweep_flags() -> None:
    """Defines the flags of this command."""
    detect_config.define_images_flag()
    define_ground_truth_flag()
    detect_config.define_checkpoint_flag()
    detect_config.define_model_flag()
    detect_config.define_engine_flag()
    cli.define_path('output_dir', './sweep/', 'Directory for sweep.csv and sweep.png, created if '
                    'missing.', **cli.group('files'))
    flags.DEFINE_boolean('write', False, 'Store the best thresholds in a file next to the '
                         'checkpoint, which eval.py reads.', **cli.group('files'))
    define_gpu_flag()
    flags.DEFINE_integer('workers', 0, 'Number of scoring processes; 0 for the number of cores.', 0,
                         **cli.group('device'))
    detect_config.define_size_flags()
    detect_config.define_image_flags()
    grid = cli.group('values to combine, separated by commas')
    flags.DEFINE_list('seg_map_threshs', '0.5,0.55,0.6,0.65,0.7,0.75,0.8,0.85,0.9,0.93,0.96,0.99',
                      'Values of --seg_map_thresh of eval.py.', **grid)
    flags.DEFINE_list('min_area_threshs', '0,3,6,10,16,25,40', 'Values of --min_area_thresh.',
                      **grid)
    flags.DEFINE_list('min_box_sides', '0,8,12', 'Values of --min_box_side.', **grid)
    flags.DEFINE_list('min_scores', '0,0.8,0.85,0.9', 'Values of --min_score.', **grid)
    flags.DEFINE_list('min_region_areas', '0', 'Values of --min_region_area.', **grid)
    flags.DEFINE_list('short_sides', '', "Values of --short_side, 0 for the images' own size; by "
                      'default the size of --short_side or --long_side.', **grid)


def _grid_from_flags(values: flags.FlagValues) -> Grid:
    kinds = Thresholds.__annotations__.values()
    return Grid(*(_numbers(f'{name}s', values[f'{name}s'].value, kind)
                  for name, kind in zip(Thresholds._fields, kinds)))


def _numbers(flag: str, texts: Sequence[str], kind: Callable[[str], float]) -> List[float]:
    try:
        numbers = sorted({kind(text) for text in texts})
    except ValueError:
        numbers = []
    if not numbers:
        raise PSENetError(f'--{flag}={",".join(texts)} must be numbers separated by commas, such '
                          f'as {flags.FLAGS[flag].default_as_str}')
    for number in numbers:
        detect_config.validate(detect_config.DetectConfig()._replace(**{flag[:-1]: number}))
    return numbers


def _configs(config: detect_config.DetectConfig, short_sides: Sequence[str],
             ) -> List[detect_config.DetectConfig]:
    """Returns a configuration for each size."""
    if not any(short_sides):
        return [config]
    if config.short_side or config.long_side:
        raise PSENetError('--short_sides sets all sizes; remove --short_side and --long_side')
    return [config._replace(short_side=side)
            for side in _numbers('short_sides', short_sides, int)]


def sweep(config: detect_config.DetectConfig, validation: Validation, grid: Grid,
          workers: int) -> List[Row]:
    """Runs the network once and scores every combination.

    Args:
        config: the network, and limits of image sizes.
        validation: images and ground truth.
        grid: the combinations.
        workers: number of scoring processes.

    Returns:
        One row per combination.

    Raises:
        PSENetError: the checkpoint or an image cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix='psenet-sweep-') as directory:
        with open_detector(config, Platform(config.gpu_list)) as detector:
            maps = store_maps(detector, validation.images, Levels(grid.seg_map_threshs), directory,
                              image_reader(config), with_scores=max(grid.min_scores) > 0)
        rows = score_grid(Task(grid, maps, validation.ground_truth), workers)
    return [row._replace(short_side=config.short_side) for row in rows]


def write_csv(rows: Sequence[Row], path: str) -> None:
    """Writes thresholds, precision, recall and Hmean, one line per combination.

    Raises:
        PSENetError: it cannot be written.
    """
    with replacing(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([*Thresholds._fields, 'short_side', *Score._fields[:3]])
        writer.writerows([*row.thresholds, row.short_side, *row.score[:3]] for row in rows)


def _describe(row: Row) -> str:
    score = row.score
    return (f'Hmean {score.hmean:.4f} (precision {score.precision:.4f}, recall {score.recall:.4f})'
            f' with {row.thresholds.flags()}'
            + (f' --short_side={row.short_side}' if row.short_side else ''))


def _report(rows: Sequence[Row], grid: Grid, output_dir: str) -> None:
    table, picture = (os.path.join(output_dir, f'sweep.{kind}') for kind in ('csv', 'png'))
    write_csv(rows, table)
    best = best_of(rows)
    draw_heat_map(grid, [row for row in rows if row.short_side == best.short_side], picture)
    logger.info('%d combinations are in %s, and their heat map in %s', len(rows), table, picture)
    for row in rows:
        if row.thresholds == Thresholds():
            logger.info('defaults: %s', _describe(row))
    logger.info('best: %s', _describe(best))


def main(_: List[str]) -> None:
    """Runs the sweep that the flags describe."""
    config = detect_config.detect_config_from_flags(flags.FLAGS)
    grid = _grid_from_flags(flags.FLAGS)
    validation = open_validation(config.test_data_path, flags.FLAGS.gt)
    make_folder(config.output_dir)
    configure_tensorflow(config.gpu_list)
    rows = [row for one in _configs(config, flags.FLAGS.short_sides)
            for row in sweep(one, validation, grid, flags.FLAGS.workers or usable_cores())]
    _report(rows, grid, config.output_dir)
    if flags.FLAGS.write:
        best = best_of(rows)
        sizes = {'long_side': config.long_side, 'short_side': best.short_side}
        path = write_thresholds(config, best.thresholds, {
            **{name: side for name, side in sizes.items() if side},
            **dict(zip(Score._fields[:3], best.score))})
        logger.info('eval.py now uses the thresholds in %s', path)


if __name__ == '__main__':
    define_sweep_flags()
    cli.run(main, __doc__)
