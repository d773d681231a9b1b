"""Configuration of a detection run, and its flags."""

import os
import re
from typing import Collection, Iterator, NamedTuple, Optional, Tuple

from absl import flags

from inference.postprocess import MIN_SIDE, Thresholds
from inference.tiles import MIN_TILE_SIDE
from utils.cli import define_path, group
from utils.errors import PSENetError
from utils.image_io import MAX_IMAGE_PIXELS
from utils.tf_env import define_gpu_flag, parse_gpu_list
from utils.utils_tool import cfg, logger

Size = Tuple[int, int]  # width, height in pixels
# Default limit of the longer side of images.
MAX_SIDE_LEN = 2400
SHAPES = ('quad', 'polygon')
# Engines for .onnx files.
ONNX_ENGINES = ('onnx', 'openvino')
PRECISIONS = ('float32', 'auto')


class DetectConfig(NamedTuple):
    """Configuration of a detection run; field names are flag names; see --help for units."""

    test_data_path: str = './ocr/ch4_test_images/'
    checkpoint_path: str = './checkpoint/'
    model: str = ''
    output_dir: str = './output/'
    no_write_images: bool = False
    engine: str = 'tensorflow'
    precision: str = 'float32'
    platform: str = 'gpu'
    gpu_list: str = '0'
    npu_input_sizes: str = ('640x640,1280x736,736x1280,1280x1280,1920x1088,1088x1920,2400x1824,'
                            '1824x2400,2400x2400')
    seg_map_thresh: float = Thresholds().seg_map_thresh
    min_area_thresh: int = Thresholds().min_area_thresh
    min_box_side: int = Thresholds().min_box_side
    max_side_len: int = MAX_SIDE_LEN
    short_side: int = 0
    long_side: int = 0
    max_image_pixels: int = MAX_IMAGE_PIXELS
    apply_exif_orientation: bool = False
    tile: bool = False
    output_shape: str = 'quad'
    polygon_tolerance: float = 4.0
    write_scores: bool = False
    min_score: float = Thresholds().min_score
    min_region_area: int = Thresholds().min_region_area

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of post-processing."""
        return Thresholds(*(getattr(self, name) for name in Thresholds._fields))

    @property
    def tolerance(self) -> Optional[float]:
        """Tolerance for ``find_regions``; None for quads."""
        return self.polygon_tolerance if self.output_shape == 'polygon' else None

    def scale_of(self, image_size: Size) -> float:
        """Returns the scale for ``--short_side`` or ``--long_side``; 1 if neither is given."""
        if self.short_side:
            return self.short_side / min(image_size)
        return self.long_side / max(image_size) if self.long_side else 1.0

    @property
    def input_sizes(self) -> Tuple[Size, ...]:
        """The sizes of ``--npu_input_sizes``, smallest first."""
        return parse_sizes(self.npu_input_sizes)


_DEFAULTS = DetectConfig()


def define_detect_flags() -> None:
    """Defines the flags of detection (absl; call once, in an entry script)."""
    define_images_flag()
    define_checkpoint_flag()
    define_model_flag()
    define_output_flags()
    _define_device_flags()
    define_threshold_flags()
    define_shape_flags()
    define_size_flags()
    define_image_flags()


def define_output_flags() -> None:
    """Defines the flags of result files."""
    files = group('files')
    define_path(
        'output_dir', _DEFAULTS.output_dir,
        'Directory for res_<image>.txt and the images with boxes, created if missing. Result files '
        'of an earlier run are removed, other files are kept.', **files)
    flags.DEFINE_boolean(
        'no_write_images', _DEFAULTS.no_write_images,
        'Do not write images with the boxes drawn.', **files)
    flags.DEFINE_boolean(
        'write_scores', _DEFAULTS.write_scores, 'Append to each line the score of the region, '
        '0 .. 1, the mean of the largest kernel; for scoring with CONFIDENCES.', **files)


def define_images_flag() -> None:
    """Defines ``--test_data_path``."""
    define_path(
        'test_data_path', _DEFAULTS.test_data_path,
        'Directory with images, or a single image.', **group('files'))


def define_checkpoint_flag() -> None:
    """Defines ``--checkpoint_path`` for detection."""
    define_path(
        'checkpoint_path', _DEFAULTS.checkpoint_path,
        'Trained checkpoint: a directory, a prefix such as model.ckpt-1000, or one of its files.',
        **group('files'))


def define_model_flag() -> None:
    """Defines ``--model``."""
    define_path(
        'model', _DEFAULTS.model,
        'Exported model (tools.export) to use instead of the checkpoint: a frozen graph, the '
        'directory of a SavedModel or, with --engine=onnx or openvino, an .onnx file.',
        **group('files'))


def define_engine_flag() -> None:
    """Defines ``--engine`` and ``--precision``."""
    flags.DEFINE_enum(
        'engine', _DEFAULTS.engine, ['tensorflow', *ONNX_ENGINES],
        'Engine that runs the network. onnx (ONNX Runtime) and openvino run on the CPU, faster '
        'than TensorFlow; both need --model.', **group('device'))
    flags.DEFINE_enum(
        'precision', _DEFAULTS.precision, PRECISIONS,
        'Numerical precision of --engine=openvino. auto lets OpenVINO choose: bfloat16 on '
        'processors that support it, which halves the time and changes scores by up to 0.1.',
        **group('device'))


def _define_device_flags() -> None:
    device = group('device')
    define_engine_flag()
    flags.DEFINE_enum(
        'platform', _DEFAULTS.platform, ['gpu', 'npu'],
        'gpu: the GPUs in --gpu_list, or the CPU; npu: the Ascend NPU in ASCEND_DEVICE_ID '
        '(otherwise DEVICE_ID, or the first one); --gpu_list is ignored.', **device)
    define_gpu_flag()
    flags.DEFINE_string(
        'npu_input_sizes', _DEFAULTS.npu_input_sizes,
        'With --platform=npu: sizes, width x height, for which the network is compiled on demand. '
        'Images are padded to the smallest size that fits, and shrunk if none does.', **device)


def define_threshold_flags() -> None:
    """Defines the flags of post-processing."""
    detection = group('detection')
    flags.DEFINE_float(
        'seg_map_thresh', _DEFAULTS.seg_map_thresh,
        'Pixels with a score above this belong to a kernel; 0 to below 1.', **detection)
    flags.DEFINE_integer(
        'min_area_thresh', _DEFAULTS.min_area_thresh,
        'Drop seeds with fewer score-map pixels (4x4 pixels of the network input each).',
        **detection)
    flags.DEFINE_integer(
        'min_box_side', _DEFAULTS.min_box_side,
        f'Drop boxes with a side of fewer pixels in the image; at least {MIN_SIDE} pixels are '
        'always required.', **detection)
    flags.DEFINE_float(
        'min_score', _DEFAULTS.min_score, 'Drop regions with a lower mean score of the largest '
        'kernel. Nearly all pixels of a region exceed --seg_map_thresh, so only higher values have '
        'an effect.', **detection)
    flags.DEFINE_integer(
        'min_region_area', _DEFAULTS.min_region_area, 'Drop regions that cover fewer pixels of the '
        'image.', **detection)


def define_shape_flags() -> None:
    """Defines ``--output_shape`` and ``--polygon_tolerance``."""
    detection = group('detection')
    flags.DEFINE_enum(
        'output_shape', _DEFAULTS.output_shape, SHAPES,
        'quad: minimum-area rectangle of each text; polygon: its outline, for text of any shape.',
        **detection)
    flags.DEFINE_float(
        'polygon_tolerance', _DEFAULTS.polygon_tolerance, 'Maximum distance between a simplified '
        'polygon and the outline, in pixels of the network input.', 0, **detection)


def define_size_flags() -> None:
    """Defines the flags that limit the size of images."""
    detection = group('detection')
    flags.DEFINE_integer(
        'max_side_len', _DEFAULTS.max_side_len,
        'Shrink images whose longer side exceeds this many pixels.', **detection)
    flags.DEFINE_integer(
        'short_side', _DEFAULTS.short_side, 'Scale the shorter side of each image up or down to '
        'this many pixels, within --max_side_len; 0 keeps the size.', **detection)
    flags.DEFINE_integer(
        'long_side', _DEFAULTS.long_side, 'The same for the longer side.', **detection)
    flags.DEFINE_integer(
        'max_image_pixels', _DEFAULTS.max_image_pixels,
        'Treat images with more pixels as unreadable, without decoding them.', **detection)


def define_image_flags() -> None:
    """Defines ``--apply_exif_orientation`` and ``--tile``."""
    flags.DEFINE_boolean(
        'apply_exif_orientation', _DEFAULTS.apply_exif_orientation,
        'Rotate images by their EXIF orientation; boxes refer to the rotated image.',
        **group('detection'))
    flags.DEFINE_boolean(
        'tile', _DEFAULTS.tile,
        'Do not shrink images that exceed --max_side_len, but run the network on overlapping tiles '
        'of that side; their score maps are merged before boxes are found.', **group('detection'))


def detect_config_from_flags(flag_values: flags.FlagValues) -> DetectConfig:
    """Reads and checks the flags of ``define_detect_flags``, or the subset that is defined.

    Args:
        flag_values: the parsed absl flags.

    Returns:
        The run's configuration.

    Raises:
        PSENetError: a value or a combination is invalid; the message names the flag.
    """
    defined = [name for name in DetectConfig._fields if name in flag_values]
    config = DetectConfig(**{name: getattr(flag_values, name) for name in defined})
    validate(config)
    _check_given(config, {name for name in defined if flag_values[name].present})
    return config


def validate(config: DetectConfig) -> None:
    """Rejects invalid settings before anything is started.

    Raises:
        PSENetError: the first fault found.
    """
    parse_gpu_list(config.gpu_list)
    parse_sizes(config.npu_input_sizes)
    for fault in _faults(config):
        raise PSENetError(fault)


def _faults(config: DetectConfig) -> Iterator[str]:
    yield from _threshold_faults(config)
    for name in ('test_data_path', 'checkpoint_path', 'output_dir'):
        if not getattr(config, name):
            yield f'--{name} is empty; give a path'
    for name in ('short_side', 'long_side'):
        if getattr(config, name) and getattr(config, name) < cfg.SIDE_MULTIPLE:
            yield f'--{name}={getattr(config, name)} must be 0 or at least {cfg.SIDE_MULTIPLE}'
    if config.short_side and config.long_side:
        yield (f'--short_side={config.short_side} and --long_side={config.long_side} both set the '
               'size; give one of them')
    yield from _tile_faults(config)
    yield from _engine_faults(config)
    if os.path.realpath(config.output_dir) == os.path.realpath(config.test_data_path):
        yield (f'--output_dir={config.output_dir} is the directory of --test_data_path, where '
               'output images would be taken for test images; choose another one')


def _threshold_faults(config: DetectConfig) -> Iterator[str]:
    if not 0 <= config.seg_map_thresh < 1:
        yield f'--seg_map_thresh={config.seg_map_thresh} must be at least 0 and below 1'
    if not 0 <= config.min_score <= 1:
        yield f'--min_score={config.min_score} must lie in 0 .. 1'
    for name, least in (('min_area_thresh', 0), ('min_box_side', 0), ('min_region_area', 0),
                        ('max_image_pixels', 1), ('max_side_len', cfg.SIDE_MULTIPLE)):
        if getattr(config, name) < least:
            yield f'--{name}={getattr(config, name)} must be at least {least}'


def _tile_faults(config: DetectConfig) -> Iterator[str]:
    if config.tile and config.max_side_len < MIN_TILE_SIDE:
        yield (f'--max_side_len={config.max_side_len} must be at least {MIN_TILE_SIDE} with '
               '--tile, whose tiles overlap')
    if config.tile and config.platform == 'npu':
        yield ('--tile cannot be used with --platform=npu, which compiles the network for the '
               'sizes of --npu_input_sizes; remove one of them')


def _engine_faults(config: DetectConfig) -> Iterator[str]:
    is_onnx = config.model.lower().endswith('.onnx')
    engine = config.engine
    if engine in ONNX_ENGINES and not config.model:
        yield f'--engine={engine} needs --model, an .onnx file from tools.export'
    if config.model and config.platform == 'npu':
        yield (f'--model={config.model} cannot be used with --platform=npu, which compiles the '
               'network of a checkpoint; remove --model')
    if engine in ONNX_ENGINES and not is_onnx:
        yield (f'--engine={engine} needs an .onnx file, but --model={config.model} is not one; '
               'tools.export writes one')
    if engine not in ONNX_ENGINES and is_onnx:
        yield f'--model={config.model} is for --engine=onnx or openvino; give one of them'
    if config.precision != 'float32' and engine != 'openvino':
        yield (f'--precision={config.precision} is for --engine=openvino; remove it, or give that '
               'engine')


def _check_given(config: DetectConfig, given: Collection[str]) -> None:
    """Rejects flags that have no effect in combination; logs which model is used."""
    if config.engine in ONNX_ENGINES and 'gpu_list' in given and config.gpu_list.strip():
        raise PSENetError(f'--gpu_list={config.gpu_list} has no effect with --engine='
                          f'{config.engine}, which runs on the CPU; give one of them')
    # Not an error, as eval.sh always gives a checkpoint.
    if config.model and 'checkpoint_path' in given:
        logger.info('using --model=%s instead of the checkpoint', config.model)


def parse_size(flag: str, text: str) -> Size:
    """Parses a flag of one size, ``<width>x<height>``.

    Raises:
        PSENetError: the text is malformed, or a side is not a multiple of 32.
    """
    try:
        size, = parse_sizes(text)
    except (PSENetError, ValueError):
        raise PSENetError(f'--{flag}={text} must be one size such as 1280x736 (width x height), '
                          f'both sides multiples of {cfg.SIDE_MULTIPLE}') from None
    return size


def parse_sizes(text: str) -> Tuple[Size, ...]:
    """Parses ``--npu_input_sizes``.

    Args:
        text: ``<width>x<height>,...``, without duplicates.

    Returns:
        (width, height) of each, smallest area first.

    Raises:
        PSENetError: the text is malformed, or a side is not a multiple of 32.
    """
    matches = [re.fullmatch('([0-9]+)x([0-9]+)', part.strip()) for part in text.split(',')]
    sizes = {tuple(map(int, match.groups())) for match in matches if match}
    usable = all(side and side % cfg.SIDE_MULTIPLE == 0 for size in sizes for side in size)
    if len(sizes) != len(matches) or not usable:
        raise PSENetError(
            f'--npu_input_sizes={text} must be sizes such as 1280x736,736x1280 (width x height), '
            f'each once, all sides multiples of {cfg.SIDE_MULTIPLE}')
    return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))
