"""Exports a checkpoint for other programs: a frozen graph, a SavedModel, an ONNX model.

    python -m tools.export --checkpoint_path=./resnet_train/ --output_dir=./export/
    python -m tools.export --input_size=1280x736 ...      for Ascend's ATC: docs/ascend.md
    python eval.py --engine=onnx --model=./export/psenet.onnx ...       detects with what it wrote

Each model is loaded again in its own engine and compared with the checkpoint on images at two
sizes. One whose scores differ by more than --max_difference is removed again, an earlier one of its
name stays, and the exit code is 1. model.json tells programs what the models take and give;
docs/export.md how to run them.
"""

from typing import List

from absl import flags

from inference import config as detect_config
from tools.exporting.comparison import (
    find_pictures,
    inputs_at_two_sizes,
    inputs_of_size,
    sizes_of,
)
from tools.phases import interrupt_on_termination
from utils import cli
from utils.errors import PSENetError
from utils.tf_env import configure_tensorflow
from utils.utils_tool import logger

FORMATS = ('frozen_graph', 'saved_model', 'onnx')


def define_export_flags() -> None:
    """Defines the flags of this command."""
    detect_config.define_checkpoint_flag()
    files, comparison = cli.group('files'), cli.group('comparison')
    cli.define_path('output_dir', './export/', 'Folder for the models and model.json; made '
                    'when it does not exist. Earlier models in it are replaced.', **files)
    flags.DEFINE_list('formats', list(FORMATS), 'What to write: frozen_graph (psenet.pb), '
                      'saved_model (the folder saved_model), onnx (psenet.onnx).', **files)
    flags.DEFINE_string('input_size', '', 'Make the models for images of this width x height, one '
                        'at a time, as compilers want it that run ahead; empty for any size. '
                        'Leaves the SavedModel out.', **files)
    cli.define_path('test_data_path', '', 'Folder with images to compare on; two pictures are '
                    'drawn where it is empty.', **comparison)
    flags.DEFINE_integer('num_images', 2, 'How many of its images.', 1, **comparison)
    flags.DEFINE_float('max_difference', 1e-4, 'Largest difference of two scores, 0 to 1, that a '
                       'model may show.', **comparison)
    detect_config.define_size_flags()


def _check(values: flags.FlagValues) -> None:
    if not values.output_dir:
        raise PSENetError('--output_dir is empty; give a path')
    if not values.formats or not set(values.formats) <= set(FORMATS):
        raise PSENetError(f'--formats={",".join(values.formats)} must be some of '
                          f'{",".join(FORMATS)}')
    if values.input_size and values.formats == ['saved_model']:
        raise PSENetError('--input_size is for a frozen graph and ONNX, not for a SavedModel; '
                          'leave one of both flags out')
    if not 0 <= values.max_difference <= 1:
        raise PSENetError(f'--max_difference={values.max_difference} must be from 0 to 1')


def main(_: List[str]) -> None:
    """Exports what the flags name."""
    interrupt_on_termination()
    values = flags.FLAGS
    _check(values)
    pictures = find_pictures(values.test_data_path, values.num_images, values.max_image_pixels)
    size = detect_config.parse_size('input_size', values.input_size) if values.input_size else None
    inputs = inputs_of_size(pictures.images, size) if size else inputs_at_two_sizes(
        pictures.images, values.max_side_len)
    configure_tensorflow('')
    # TensorFlow comes with it.
    from tools.exporting.exporter import Export, export_models

    formats = [name for name in dict.fromkeys(values.formats)
               if not (size and name == 'saved_model')]
    export = Export(values.checkpoint_path, values.output_dir, formats, inputs,
                    values.max_difference, size)
    logger.info('comparing on %s, at %s', pictures.description, ', '.join(sizes_of(inputs)))
    refused = []
    for exported in export_models(export):
        cli.print_text(exported.line())
        if not exported.kept:
            refused.append(exported.path)
    if refused:
        raise PSENetError(f'{", ".join(refused)}: scores differ by more than --max_difference='
                          f'{values.max_difference} from those of the checkpoint; not kept')


if __name__ == '__main__':
    define_export_flags()
    cli.run(main, __doc__)
