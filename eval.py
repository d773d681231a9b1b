"""Detects text in a folder of images with a trained checkpoint.

    python eval.py --test_data_path=./ocr/ch4_test_images --checkpoint_path=./checkpoint/

For every image, res_<image>.txt in --output_dir holds a box a line, x1,y1,x2,y2,x3,y3,x4,y4,
clockwise, in pixels of the image; beside it lies the image with its boxes drawn. The exit code is 3
when all is done but some images could not be read; their result files are empty.
"""

from typing import List

from absl import flags

from inference.config import DetectConfig, define_detect_flags, detect_config_from_flags
from inference.folder import Summary, detect_folder, images_by_stem
from inference.results import prepare_output
from utils import cli
from utils.tf_env import configure_tensorflow
from utils.utils_tool import logger

EXIT_UNREADABLE = 3


def evaluate(config: DetectConfig) -> Summary:
    """Detects in every image of ``config.test_data_path``."""
    images = images_by_stem(config.test_data_path)
    configure_tensorflow(config.gpu_list)
    # TensorFlow comes with it, and reads the environment when it starts.
    from inference.detector import Detector
    with Detector(config.checkpoint_path, config.seg_map_thresh, config.min_area_thresh,
                  config.max_side_len, config.gpu_list) as detector:
        prepare_output(config.output_dir)
        return detect_folder(detector.detect, images, config.output_dir,
                             write_images=not config.no_write_images)


def main(_: List[str]) -> int:
    """Runs the script; returns its exit code."""
    summary = evaluate(detect_config_from_flags(flags.FLAGS))
    logger.info('%s', summary.line())
    if summary.unreadable:
        logger.error('%d of %d images could not be read (named above): their result files are '
                     'empty', summary.unreadable, summary.images)
        return EXIT_UNREADABLE
    return 0


if __name__ == '__main__':
    define_detect_flags()
    cli.run(main, __doc__)
