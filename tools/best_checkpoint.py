"""Scores every checkpoint of a training on images with ground truth, and keeps the best.

    python -m tools.best_checkpoint --checkpoint_path=./resnet_train/ --test_data_path=... --gt=...
    python -m tools.best_checkpoint ... --once          scores what is there and ends

Runs beside the training until Ctrl-C. --best_path holds the best checkpoints: eval.py takes each,
and for the best of them the folder. There, scores.csv and scores.png show all that were scored.
Scores also go to TensorBoard, as the run "eval" beside the training's. After train.py --overwrite,
start this anew. With --once the exit code is 3 when a checkpoint could not be scored.
"""

import os
from typing import List

from absl import flags

from inference import config as detect_config
from tools.scoring.validation import (
    define_ground_truth_flag,
    digest_of_truth,
    open_validation,
)
from training.config import TrainConfig
from utils import cli
from utils.errors import PSENetError
from utils.tf_env import configure_tensorflow, define_gpu_flag
from utils.utils_tool import logger

EXIT_UNSCORED = 3


def define_best_checkpoint_flags() -> None:
    """Defines the flags of this command."""
    files, following = cli.group('files'), cli.group('following')
    cli.define_path('checkpoint_path', TrainConfig().checkpoint_path, 'Folder that the '
                    'training writes its checkpoints to.', **files)
    detect_config.define_images_flag()
    define_ground_truth_flag()
    cli.define_path('best_path', '', 'Folder for the best checkpoints and the scores; the '
                    'folder "best" in --checkpoint_path where it is empty.', **files)
    flags.DEFINE_integer('keep', 3, 'Number of checkpoints that are kept.', **following)
    flags.DEFINE_boolean('once', False, 'End when all that is there has been scored.', **following)
    flags.DEFINE_float('interval', 30, 'Seconds from one look for new checkpoints to the next.',
                       **following)
    define_gpu_flag()
    detect_config.define_threshold_flags()
    detect_config.define_shape_flags()
    detect_config.define_size_flags()
    detect_config.define_image_flags()


def _check(values: flags.FlagValues) -> None:
    if os.path.realpath(values.best_path or '') == os.path.realpath(values.checkpoint_path):
        raise PSENetError(f'--best_path={values.best_path} is the folder of the training, which '
                          'removes checkpoints by rules of its own; choose another one')
    if values.keep < 1:
        raise PSENetError(f'--keep={values.keep} must be at least 1')
    if not 0 < values.interval < float('inf'):
        raise PSENetError(f'--interval={values.interval} must be a number of seconds above 0')


def main(_: List[str]) -> int:
    """Follows the training that the flags name; returns the exit code."""
    values = flags.FLAGS
    config = detect_config.detect_config_from_flags(values)
    _check(values)
    validation = open_validation(config.test_data_path, values.gt)
    configure_tensorflow(config.gpu_list)
    # TensorFlow comes with it.
    from tools.scoring.follower import Follower, Places, Settings

    folder = config.checkpoint_path
    places = Places(folder, values.best_path or os.path.join(folder, 'best'), values.keep)
    settings = Settings(config.seg_map_thresh, config.min_area_thresh, config.min_box_side,
                        config.max_side_len, len(validation.images), digest_of_truth(values.gt),
                        config.apply_exif_orientation, config.tile, config.min_score,
                        config.min_region_area, config.short_side, config.long_side,
                        config.output_shape, config.polygon_tolerance)
    follower = Follower(places, config, validation, settings)
    try:
        if values.once:
            return EXIT_UNSCORED if follower.once() else 0
        logger.info('following %s; Ctrl-C ends it', folder)
        follower.follow(values.interval)
    finally:
        follower.close()
    return 0


if __name__ == '__main__':
    define_best_checkpoint_flags()
    cli.run(main, __doc__)
