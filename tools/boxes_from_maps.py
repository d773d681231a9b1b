"""Pre- and post-processing for a network that runs elsewhere, such as an .om on an Ascend 310.

    python -m tools.boxes_from_maps --test_data_path=images/ --inputs_dir=bins/
    python -m tools.boxes_from_maps --test_data_path=images/ --maps_dir=out/ --output_dir=output/

The first writes <image>.bin for every image, float32 (1, H, W, 3), RGB, 0..255, the input of a
model from tools.export --input_size. The second reads the model's outputs, float32 (1, H/4, W/4,
6), from <image>_0.bin, <image>_output_0.bin or <image>_0.npy in --maps_dir (the names that msame
and ais_bench use), and writes the same files as eval.py. docs/ascend.md shows all steps.
"""

import os
from typing import Iterator, List, Tuple

import numpy as np
from absl import flags
from tqdm import tqdm

from inference import config as detect_config
from inference.detector import NetworkInput, prepare_image
from inference.folder import image_reader, images_by_stem, write_drawn
from inference.networks import pad_image
from inference.postprocess import find_regions
from inference.results import make_folder, prepare_output, write_result
from utils import cli
from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import cfg, logger

_MAP_NAMES = ('{}_0.bin', '{}_output_0.bin', '{}_0.npy', '{}_output_0.npy', '{}.bin', '{}.npy')


def prepared_images(config: detect_config.DetectConfig, size: detect_config.Size,
                    ) -> Iterator[Tuple[str, str, np.ndarray, NetworkInput]]:
    """Prepares images for a network of fixed size, as eval.py does.

    Args:
        config: path of the images, and limits of their size.
        size: (width, height) of the network's input.

    Yields:
        For each image its name without extension, its path, its pixels, uint8 (H, W, 3), BGR, and
        the network's input before padding.

    Raises:
        PSENetError: an image cannot be read.
    """
    read = image_reader(config)
    for stem, path in tqdm(images_by_stem(config.test_data_path).items(), unit='image'):
        image_bgr = read(path)
        scale = config.scale_of(image_bgr.shape[1::-1])
        yield stem, path, image_bgr, prepare_image(image_bgr, config.max_side_len, (size,), scale)


def write_inputs(config: detect_config.DetectConfig, size: detect_config.Size, directory: str
                 ) -> int:
    """Writes the network's inputs; returns their number.

    Raises:
        PSENetError: an image cannot be read or a file cannot be written.
    """
    make_folder(directory)
    count = 0
    for stem, _, _, prepared in prepared_images(config, size):
        with replacing(os.path.join(directory, f'{stem}.bin')) as temporary:
            pad_image(prepared.image_rgb, size).astype('<f4').tofile(temporary)
        count += 1
    return count


def read_maps(directory: str, stem: str, size: detect_config.Size) -> np.ndarray:
    """Reads the network's output for an image.

    Args:
        directory: contains the outputs.
        stem: name of the image without extension.
        size: (width, height) of the network's input.

    Returns:
        float32 (H/4, W/4, 6).

    Raises:
        PSENetError: the file is missing or has another size.
    """
    names = [name.format(stem) for name in _MAP_NAMES]
    path = next((os.path.join(directory, name) for name in names
                 if os.path.isfile(os.path.join(directory, name))), None)
    if path is None:
        raise PSENetError(f'--maps_dir={directory} has no {names[0]}, {names[1]} or {names[2]} for '
                          f'the image {stem}; run the network on all of them')
    try:
        found = np.load(path) if path.endswith('.npy') else np.fromfile(path, '<f4')
    except (OSError, ValueError) as error:
        raise PSENetError(f'{path} cannot be read ({error})') from None
    shape = (size[1] // cfg.STRIDE, size[0] // cfg.STRIDE, cfg.NUM_KERNELS)
    if found.size != np.prod(shape):
        raise PSENetError(f'{path} holds {found.size} numbers, and the score maps of an input of '
                          f'{size[0]}x{size[1]} are {np.prod(shape)}; give the --input_size that '
                          'the model has, and float32 outputs')
    return np.ascontiguousarray(found.reshape(shape).astype(np.float32))


def write_results(config: detect_config.DetectConfig, size: detect_config.Size,
                  maps_dir: str) -> int:
    """Writes result files, and images with the boxes drawn; returns the number of regions.

    Raises:
        PSENetError: an image or its maps cannot be read, or a file cannot be written.
    """
    prepare_output(config.output_dir)
    count = 0
    for stem, path, image_bgr, prepared in prepared_images(config, size):
        width, height = prepared.geometry.input_size
        maps = read_maps(maps_dir, stem, size)[:height // cfg.STRIDE, :width // cfg.STRIDE]
        regions = find_regions(np.ascontiguousarray(maps), prepared.geometry, config.thresholds,
                               config.tolerance)
        write_result(config.output_dir, stem, regions.polygons,
                     regions.scores if config.write_scores else None)
        if not config.no_write_images:
            write_drawn(config.output_dir, path, image_bgr, regions.polygons)
        count += len(regions.polygons)
    return count


def define_maps_flags() -> None:
    """Defines the flags of this command."""
    files = cli.group('files')
    detect_config.define_images_flag()
    detect_config.define_output_flags()
    flags.DEFINE_string('input_size', '1280x736', "Width x height of the network's input.", **files)
    cli.define_path('inputs_dir', '', "Write the network's inputs to this directory.", **files)
    cli.define_path('maps_dir', '', "Write results from the network's outputs in this directory.",
                    **files)
    detect_config.define_threshold_flags()
    detect_config.define_shape_flags()
    detect_config.define_size_flags()


def main(_: List[str]) -> None:
    """Writes inputs or results, as the flags say."""
    values = flags.FLAGS
    config = detect_config.detect_config_from_flags(values)
    size = detect_config.parse_size('input_size', values.input_size)
    if bool(values.inputs_dir) == bool(values.maps_dir):
        raise PSENetError("give either --inputs_dir, to write the network's inputs, or --maps_dir, "
                          'to read its outputs')
    if values.inputs_dir:
        logger.info('%d inputs of %dx%d are in %s', write_inputs(config, size, values.inputs_dir),
                    *size, values.inputs_dir)
    else:
        logger.info('%d regions are in %s', write_results(config, size, values.maps_dir),
                    config.output_dir)


if __name__ == '__main__':
    define_maps_flags()
    cli.run(main, __doc__)
