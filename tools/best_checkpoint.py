"""Scores every checkpoint of a training run on images with ground truth, and keeps the best.

    python -m tools.best_checkpoint --checkpoint_path=./resnet_train/ --test_data_path=... --gt=...
    python -m tools.best_checkpoint ... --once          scores existing checkpoints and exits

Runs alongside training until Ctrl-C. --best_path receives the best checkpoints; eval.py accepts
each of them, or the directory for the very best. scores.csv and scores.png in it show all scores,
which are also logged to TensorBoard as the run "eval". Restart this command after train.py
--overwrite. With --once the exit code is 3 if a checkpoint could not be scored.
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
    cli.define_path('checkpoint_path', TrainConfig().checkpoint_path, 'Directory to which training '
                    'writes its checkpoints.', **files)
    detect_config.define_images_flag()
    define_ground_truth_flag()
    cli.define_path('best_path', '', 'Directory for the best checkpoints and the scores; by '
                    'default the directory "best" in --checkpoint_path.', **files)
    flags.DEFINE_integer('keep', 3, 'Number of checkpoints to keep.', 1, **following)
    flags.DEFINE_boolean('once', False, 'Exit when all existing checkpoints have been scored.',
                         **following)
    flags.DEFINE_float('interval', 30, 'Seconds between searches for new checkpoints.', **following)
    define_gpu_flag()
    detect_config.define_threshold_flags()
    detect_config.define_shape_flags()
    detect_config.define_size_flags()
    detect_config.define_image_flags()


def main(_: List[str]) -> int:
    """Follows the training run that the flags name; returns the exit code."""
    values = flags.FLAGS
    config = detect_config.detect_config_from_flags(values)
    if os.path.realpath(values.best_path or '') == os.path.realpath(values.checkpoint_path):
        raise PSENetError(f'--best_path={values.best_path} is the directory of the training run, '
                          'which rotates its checkpoints; choose another one')
    if not 0 < values.interval < float('inf'):
        raise PSENetError(f'--interval={values.interval} must be a positive number of seconds')
    validation = open_validation(config.test_data_path, values.gt)
    configure_tensorflow(config.gpu_list)
    # It imports TensorFlow.
    from tools.scoring.follower import Follower, Places, Settings

    directory = config.checkpoint_path
    places = Places(directory, values.best_path or os.path.join(directory, 'best'), values.keep)
    settings = Settings(images=len(validation.images), ground_truth=digest_of_truth(values.gt), **{
        name: getattr(config, name) for name in Settings._fields if name in config._fields})
    follower = Follower(places, config, validation, settings)
    try:
        if values.once:
            return EXIT_UNSCORED if follower.once() else 0
        logger.info('following %s; Ctrl-C ends it', directory)
        follower.follow(values.interval)
    finally:
        follower.close()
    return 0


if __name__ == '__main__':
    define_best_checkpoint_flags()
    cli.run(main, __doc__)
