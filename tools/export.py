"""Exports a checkpoint as a frozen graph, a SavedModel or an ONNX model.

    python -m tools.export --checkpoint_path=./resnet_train/ --output_dir=./export/
    python -m tools.export --input_size=1280x736 ...      for Ascend's ATC: docs/ascend.md
    python -m tools.export --formats=onnx_int8 --calibration_data_path=images --test_data_path=test
                                                          quantized to int8, for CPUs
    python eval.py --engine=onnx --model=./export/psenet.onnx ...       detects with the result

Each model is loaded in its own engine and compared with the checkpoint on images at two sizes. If
its scores differ by more than --max_difference, the model is discarded, an earlier one of the same
name is kept, and the exit code is 1. onnx_int8 is calibrated on images, and kept if its boxes agree
with those of the float model: an Hmean of at least 0.97 between them and, with --gt, an Hmean at
most 0.005 below that of the float model. model.json describes inputs and outputs for programs;
docs/export.md shows how to run the models.
"""

import itertools
from typing import Dict, List

from absl import flags

from inference import config as detect_config
from inference.folder import images_by_stem
from inference.thresholds import follow_thresholds
from tools.exporting.comparison import find_images, inputs_at_two_sizes, inputs_of_size, sizes_of
from tools.exporting.quantization import ONNX_INT8, Quantization
from tools.phases import interrupt_on_termination
from tools.scoring.validation import open_validation
from utils import cli
from utils.errors import PSENetError
from utils.tf_env import configure_tensorflow
from utils.utils_tool import logger

FORMATS = ('frozen_graph', 'saved_model', 'onnx', ONNX_INT8)


def define_export_flags() -> None:
    """Defines the flags of this command."""
    detect_config.define_checkpoint_flag()
    files, comparison = cli.group('files'), cli.group('comparison')
    cli.define_path('output_dir', './export/', 'Directory for the models and model.json, created '
                    'if missing. Earlier models in it are replaced.', **files)
    flags.DEFINE_list('formats', list(FORMATS[:3]), 'Formats to write: frozen_graph (psenet.pb), '
                      'saved_model (the directory saved_model), onnx (psenet.onnx), onnx_int8 '
                      '(psenet_int8.onnx, quantized).', **files)
    flags.DEFINE_string('input_size', '', 'Export for single images of this width x height, as '
                        'ahead-of-time compilers need; empty for any size. Skips the SavedModel.',
                        **files)
    cli.define_path('test_data_path', '', 'Directory with images to compare on; by default two '
                    'synthetic images.', **comparison)
    flags.DEFINE_integer('num_images', None, 'Number of these images: by default 2, and 50 for '
                         'onnx_int8.', 1, **comparison)
    cli.define_path('gt', '', 'With onnx_int8: ground truth of these images, a zip archive or a '
                    'directory of labels.', **comparison)
    cli.define_path('calibration_data_path', '', 'With onnx_int8: directory with calibration '
                    'images, such as training images; they should resemble those to be processed.',
                    **files)
    flags.DEFINE_integer('num_calibration_images', 24, 'Number of calibration images, taken evenly '
                         'from the directory.', 1, **files)
    flags.DEFINE_float('max_difference', 1e-4, 'Largest acceptable difference of two scores, '
                       '0 .. 1.', **comparison)
    detect_config.define_size_flags()


def _check(values: flags.FlagValues) -> None:
    if not values.output_dir:
        raise PSENetError('--output_dir is empty; give a path')
    if not values.formats or not set(values.formats) <= set(FORMATS):
        raise PSENetError(f'--formats={",".join(values.formats)} must be some of '
                          f'{",".join(FORMATS)}')
    for name in ('short_side', 'long_side', 'gt', 'calibration_data_path'):
        if values[name].present and ONNX_INT8 not in values.formats:
            raise PSENetError(f'--{name} is for --formats=onnx_int8; remove it, or add that format')
    if values.input_size and values.formats == ['saved_model']:
        raise PSENetError('--input_size is for a frozen graph and ONNX, not for a SavedModel; '
                          'remove one of the two flags')
    if not 0 <= values.max_difference <= 1:
        raise PSENetError(f'--max_difference={values.max_difference} must be from 0 to 1')


def _quantization(values: flags.FlagValues) -> Quantization:
    """Reads the settings of onnx_int8 from the flags."""
    for name, purpose in (('calibration_data_path', 'to calibrate on'),
                          ('test_data_path', 'to compare the boxes on')):
        if not values[name].value:
            raise PSENetError(f'--formats=onnx_int8 needs --{name}, a directory of images '
                              f'{purpose}')
    given = {name for name in ('max_side_len', 'short_side', 'long_side') if values[name].present}
    config = follow_thresholds(detect_config.detect_config_from_flags(values), given)
    images, truths = images_by_stem(values.test_data_path), None
    if values.gt:
        images, truths = open_validation(values.test_data_path, values.gt)
    images = dict(itertools.islice(images.items(), values.num_images or 50))
    if truths:
        truths = {image_id: truths[image_id] for image_id in images}
    paths = list(images_by_stem(values.calibration_data_path).values())
    count = min(len(paths), values.num_calibration_images)
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return Quantization(config, chosen, images, truths)


def main(_: List[str]) -> None:
    """Exports the models that the flags name."""
    interrupt_on_termination()
    values = flags.FLAGS
    _check(values)
    configure_tensorflow('')
    quantization = _quantization(values) if ONNX_INT8 in values.formats else None
    images, description = find_images(values.test_data_path, values.num_images or 2,
                                      values.max_image_pixels)
    size = detect_config.parse_size('input_size', values.input_size) if values.input_size else None
    inputs = inputs_of_size(images, size) if size else inputs_at_two_sizes(
        images, values.max_side_len)
    # It imports TensorFlow.
    from tools.exporting.exporter import Export, export_models

    formats = [name for name in dict.fromkeys(values.formats)
               if not (size and name == 'saved_model')]
    export = Export(values.checkpoint_path, values.output_dir, formats, inputs,
                    values.max_difference, size, quantization)
    logger.info('comparing on %s, at %s', description, ', '.join(sizes_of(inputs)))
    refused = {}
    for exported in export_models(export):
        cli.print_text(exported.line())
        if not exported.kept:
            refused[exported.format] = exported.path
    if refused:
        raise PSENetError(_refusal(refused, values.max_difference))


def _refusal(refused: Dict[str, str], max_difference: float) -> str:
    """Formats the reasons why models, given as format -> path, are not kept."""
    reasons = []
    quantized = refused.pop(ONNX_INT8, None)
    if refused:
        reasons.append(f'{", ".join(refused.values())}: scores differ by more than '
                       f'--max_difference={max_difference} from those of the checkpoint; not kept')
    if quantized:
        reasons.append(f'{quantized}: its boxes differ too much from those of the float model; not '
                       'kept; calibrate on more images that resemble those to be processed')
    return '; '.join(reasons)


if __name__ == '__main__':
    define_export_flags()
    cli.run(main, __doc__)
