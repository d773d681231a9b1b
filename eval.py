"""Detects text in a directory of images, or in one image, with a trained checkpoint.

    python eval.py --test_data_path=./ocr/ch4_test_images --checkpoint_path=./checkpoint/
    python eval.py --platform=npu ...      on an Ascend NPU instead of GPUs or the CPU
    python eval.py --engine=onnx --model=./export/psenet.onnx ...     in ONNX Runtime, on the CPU

For each image, res_<image>.txt in --output_dir has a box per line, x1,y1,x2,y2,x3,y3,x4,y4,
clockwise, in pixels of the image; the image with its boxes drawn is saved next to it. Thresholds
that tools.sweep --write stored with the checkpoint are used unless flags are given. The exit code
is 3 if some images could not be read; their result files are empty.
"""

from typing import Collection, Dict, List

from absl import flags

from inference.config import DetectConfig, define_detect_flags, detect_config_from_flags
from inference.detector import open_detector
from inference.folder import Summary, detect_folder, image_reader, images_by_stem
from inference.networks import Platform
from inference.results import prepare_output
from inference.thresholds import follow_thresholds
from training.devices.npu.options import Value, define_option_flags, options_from_flags
from utils import cli
from utils.errors import PSENetError
from utils.tf_env import configure_tensorflow, hide_gpus
from utils.utils_tool import logger

EXIT_UNREADABLE = 3


def find_platform(config: DetectConfig, npu_options: Dict[str, Value]) -> Platform:
    """Prepares the environment of TensorFlow for the device."""
    if config.platform == 'gpu':
        configure_tensorflow(config.gpu_list)
        return Platform(gpu_list=config.gpu_list)
    hide_gpus()
    # It imports TensorFlow.
    from training.devices.npu.session import inference_session_config
    return Platform(session_config=inference_session_config(npu_options),
                    input_sizes=config.input_sizes)


def evaluate(config: DetectConfig, npu_options: Dict[str, Value],
             given: Collection[str]) -> Summary:
    """Detects text in all images; stored thresholds replace those not given as flags."""
    images = images_by_stem(config.test_data_path)
    platform = find_platform(config, npu_options)
    config = follow_thresholds(config, given)
    with open_detector(config, platform) as detector:
        prepare_output(config.output_dir)
        return detect_folder(detector, images, config.output_dir,
                             write_images=not config.no_write_images,
                             read=image_reader(config), write_scores=config.write_scores)


def main(_: List[str]) -> int:
    """Runs the script; returns its exit code."""
    config, npu_options = detect_config_from_flags(flags.FLAGS), options_from_flags(flags.FLAGS)
    if npu_options and config.platform != 'npu':
        raise PSENetError(f'NPU options ({", ".join(npu_options)}) have no effect without '
                          '--platform=npu; give both or neither')
    given = [name for name in flags.FLAGS if flags.FLAGS[name].present]
    summary = evaluate(config, npu_options, given)
    logger.info('%s', summary.line())
    if summary.unreadable:
        logger.error('%d of %d images could not be read (see above); their result files are '
                     'empty', summary.unreadable, summary.images)
        return EXIT_UNREADABLE
    return 0


if __name__ == '__main__':
    define_detect_flags()
    define_option_flags()
    cli.run(main, __doc__)
