"""Configuration of a training run, and its flags.

The defaults are the published ones. Only entry scripts read flags; the rest of the package receives
a TrainConfig.
"""

import os
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Tuple

from absl import flags

from training.run_folder import MANIFEST, Manifest, checkpoint_name
from utils.cli import define_path, group
from utils.data_provider.augment import CROPS, REFERENCE, Augmentation
from utils.data_provider.datasets import split_mixture
from utils.data_provider.pairing import AUTO, DATASETS
from utils.errors import PSENetError
from utils.image_io import MAX_IMAGE_PIXELS
from utils.utils_tool import cfg, logger


class TrainConfig(NamedTuple):
    """Configuration of a training run; field names are flag names; see --help for units."""

    training_data_path: str = './ocr/icdar2015/'
    input_size: int = 512
    batch_size_per_gpu: int = 8
    num_readers: int = 32
    seed: Optional[int] = None
    min_crop_side_ratio: float = 0.1
    cache_images_mb: int = 0
    max_image_pixels: int = MAX_IMAGE_PIXELS
    apply_exif_orientation: bool = False
    dataset: str = AUTO
    label_path: str = ''

    recipe: str = 'reference'
    crop: str = REFERENCE.crop
    crop_scales: str = '0.7,2.3'
    flip: bool = REFERENCE.flip
    max_rotation: float = REFERENCE.max_rotation
    colour_jitter: bool = REFERENCE.colour_jitter
    soft_labels: bool = False
    backbone: str = 'resnet_v1_50'
    loss: str = 'reference'
    optimizer: str = 'adam'
    backbone_rate: float = 1.0
    schedule: str = 'exponential'
    warmup_steps: int = 0
    clip_norm: float = 0.0
    pretrained_statistics: bool = False
    measured_batches: int = 0

    learning_rate: float = 0.00001
    scale_learning_rate: bool = False
    max_steps: int = 100000
    moving_average_decay: float = cfg.EMA_DECAY
    batch_norm_decay: float = 0.997
    pretrained_model_path: Optional[str] = None

    checkpoint_path: str = './resnet_train/'
    restore: bool = False
    overwrite: bool = False
    save_checkpoint_steps: int = 1000
    keep_checkpoints: int = 5
    save_summary_steps: int = 100

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of samples."""
        return Augmentation(self.crop, parse_scales(self.crop_scales), self.flip,
                            self.max_rotation, self.colour_jitter)


# Values of --recipe=modern for flags that are not given; docs/training.md explains them.
MODERN: Dict[str, Any] = {
    'crop': 'scaled', 'flip': True, 'max_rotation': 10.0, 'colour_jitter': True,
    'soft_labels': True, 'loss': 'hard_negatives', 'optimizer': 'adamw', 'backbone_rate': 0.5,
    'schedule': 'cosine', 'warmup_steps': 500, 'clip_norm': 5.0, 'pretrained_statistics': True,
    'measured_batches': 200, 'learning_rate': 3e-4, 'moving_average_decay': 0.999,
    'batch_norm_decay': 0.99,
}
# Names in nets.backbones, which would import TensorFlow.
BACKBONES = ('resnet_v1_50', 'resnet_v1_101', 'resnet_v1_152')
_DEFAULTS = TrainConfig()
# Stored with a run, so that they need not be repeated with --restore. The seed is stored
# separately, as it may have been drawn.
_RUN_FLAGS = ('training_data_path', 'input_size', 'batch_size_per_gpu', 'min_crop_side_ratio',
              'max_image_pixels', 'apply_exif_orientation', 'dataset', 'label_path',
              'recipe', *MODERN, 'crop_scales', 'backbone', 'scale_learning_rate', 'max_steps',
              'save_checkpoint_steps', 'keep_checkpoints', 'save_summary_steps')
# global_step is float32, as in published checkpoints, which cannot count further.
_MAX_STEPS = 2 ** 24
_LEAST = {'max_rotation': 0, 'warmup_steps': 0, 'clip_norm': 0, 'measured_batches': 0,
          'input_size': 1, 'batch_size_per_gpu': 1, 'num_readers': 1, 'cache_images_mb': 0,
          'max_image_pixels': 1, 'max_steps': 1, 'save_checkpoint_steps': 1, 'keep_checkpoints': 1,
          'save_summary_steps': 1}


def define_train_flags() -> None:
    """Defines the flags for all devices (absl; call once, in an entry script)."""
    define_folder_flags()
    define_sample_flags()
    _define_reader_flags()
    _define_optimisation_flags()
    _define_recipe_flags()
    _define_checkpoint_flags()


def define_folder_flags() -> None:
    """Defines the flags of the training images, for training and the data tools."""
    data = group('data')
    define_path(
        'training_data_path', _DEFAULTS.training_data_path,
        'Directory with the training images and their labels, which may be in a subdirectory '
        'labels, gt or annotations; docs/data.md lists the formats. Several directories are mixed '
        'by weight: A:0.5,B:0.5.', **data)
    define_path('label_path', _DEFAULTS.label_path, 'Directory with the labels, if not that of the '
                'images.', **data)
    flags.DEFINE_enum(
        'dataset', _DEFAULTS.dataset, [AUTO, *DATASETS],
        'Form of the labels; auto detects and logs it.', **data)
    flags.DEFINE_integer(
        'max_image_pixels', _DEFAULTS.max_image_pixels,
        'Skip images with more pixels, without decoding them.', **data)
    flags.DEFINE_boolean(
        'apply_exif_orientation', _DEFAULTS.apply_exif_orientation,
        'Rotate images by their EXIF orientation, for labels that were drawn on upright images; '
        'most data sets were labelled on the stored pixels.', **data)
    flags.DEFINE_float(
        'min_crop_side_ratio', _DEFAULTS.min_crop_side_ratio,
        'Reject random crops with a side shorter than this fraction of the image.', **data)


def define_sample_flags() -> None:
    """Defines the other flags that determine the training samples."""
    data = group('data')
    flags.DEFINE_integer(
        'input_size', _DEFAULTS.input_size,
        'Side in pixels of the square training crops; a multiple of 32.', **data)
    flags.DEFINE_integer(
        'batch_size_per_gpu', _DEFAULTS.batch_size_per_gpu,
        'Samples per batch on each device; the dice loss sums over this batch.', **data)
    flags.DEFINE_integer(
        'seed', _DEFAULTS.seed,
        'Seed of initial weights, sample order and augmentation; by default drawn and logged or, '
        'with --restore, that of the run.', **data)
    flags.DEFINE_enum(
        'recipe', _DEFAULTS.recipe, ['reference', 'modern'], 'Values of flags that are not given: '
        'reference, as published; modern, as in docs/training.md.', **data)
    flags.DEFINE_enum(
        'crop', _DEFAULTS.crop, CROPS, 'Cropping: stretched, between texts, as in the reference; '
        'scaled, a square window around a text that keeps the aspect ratio.', **data)
    flags.DEFINE_string(
        'crop_scales', _DEFAULTS.crop_scales, 'With --crop=scaled: minimum and maximum scale of '
        'the image.', **data)
    flags.DEFINE_boolean('flip', _DEFAULTS.flip, 'With --crop=scaled: mirror half of the crops.',
                         **data)
    flags.DEFINE_float(
        'max_rotation', _DEFAULTS.max_rotation, 'With --crop=scaled: maximum rotation of crops in '
        'degrees.', **data)
    flags.DEFINE_boolean(
        'colour_jitter', _DEFAULTS.colour_jitter, 'Vary brightness, contrast and saturation.',
        **data)
    flags.DEFINE_boolean(
        'soft_labels', _DEFAULTS.soft_labels, 'Average the 16 pixels of each cell of the score '
        "maps; the reference samples one pixel, 1.5 pixels off the cell's centre.", **data)


def _define_reader_flags() -> None:
    data = group('data')
    flags.DEFINE_integer(
        'num_readers', _DEFAULTS.num_readers,
        'Processes that read and augment samples; at most 16 are started.', **data)
    flags.DEFINE_integer(
        'cache_images_mb', _DEFAULTS.cache_images_mb,
        'Memory in MB for caching decoded images, divided evenly among the readers of a process; '
        '0 disables the cache.', **data)
    unused = 'Accepted for published commands but not used, as in the reference.'
    flags.DEFINE_integer('max_image_large_side', 1280, unused, **data)
    flags.DEFINE_integer('max_text_size', 800, unused, **data)
    flags.DEFINE_integer('min_text_area_size', 10, unused, **data)


def _define_optimisation_flags() -> None:
    optimisation = group('optimisation')
    flags.DEFINE_float(
        'learning_rate', _DEFAULTS.learning_rate,
        'Initial learning rate; see --schedule and --warmup_steps.', **optimisation)
    flags.DEFINE_boolean(
        'scale_learning_rate', _DEFAULTS.scale_learning_rate,
        'Multiply --learning_rate by the number of processes that train together.', **optimisation)
    flags.DEFINE_integer(
        'max_steps', _DEFAULTS.max_steps,
        'Step at which the run ends, counted over all restarts.', **optimisation)
    flags.DEFINE_float(
        'moving_average_decay', _DEFAULTS.moving_average_decay,
        'Decay of the moving average of the weights, which eval.py uses; at step n at most '
        '(1 + n) / (10 + n).', **optimisation)
    flags.DEFINE_float(
        'batch_norm_decay', _DEFAULTS.batch_norm_decay,
        'Decay of the moving mean and variance of batch normalisation; use a lower one (0.9) for '
        'runs of a few hundred steps.', **optimisation)
    define_path(
        'pretrained_model_path', _DEFAULTS.pretrained_model_path,
        'Initial weights: ImageNet checkpoint of slim (resnet_v1_50.ckpt) for the backbone, or a '
        'trained detector for fine-tuning.', **optimisation)


def _define_recipe_flags() -> None:
    optimisation = group('optimisation')
    flags.DEFINE_enum(
        'backbone', _DEFAULTS.backbone, BACKBONES, 'Backbone of the feature pyramid; stored with '
        'the run, so that eval.py and export need no flag.', **optimisation)
    flags.DEFINE_enum(
        'loss', _DEFAULTS.loss, ['reference', 'hard_negatives'], 'Loss function: reference, dice '
        'over the batch; hard_negatives, squared dice per image with three hard negatives per text '
        'cell, and cross entropy.', **optimisation)
    flags.DEFINE_enum(
        'optimizer', _DEFAULTS.optimizer, ['adam', 'adamw'], 'Optimizer: adam, with L2 '
        'regularisation of 1e-5; adamw, with decoupled weight decay of 0.01.', **optimisation)
    flags.DEFINE_float(
        'backbone_rate', _DEFAULTS.backbone_rate, 'Factor of the learning rate for the backbone.',
        **optimisation)
    flags.DEFINE_enum(
        'schedule', _DEFAULTS.schedule, ['exponential', 'cosine'], 'Learning rate schedule: '
        'exponential, times 0.94 every 10,000 steps; cosine, to 0 at --max_steps.', **optimisation)
    flags.DEFINE_integer(
        'warmup_steps', _DEFAULTS.warmup_steps, 'Steps over which the learning rate increases.',
        **optimisation)
    flags.DEFINE_float(
        'clip_norm', _DEFAULTS.clip_norm, 'Maximum global norm of gradients; 0 disables clipping.',
        **optimisation)
    flags.DEFINE_boolean(
        'pretrained_statistics', _DEFAULTS.pretrained_statistics, 'Also load batch-norm statistics '
        'from a backbone in --pretrained_model_path; the reference loads weights only.',
        **optimisation)
    flags.DEFINE_integer(
        'measured_batches', _DEFAULTS.measured_batches, 'At the end of a run, re-estimate the '
        'batch-norm statistics for the averaged weights over this many batches; 0 disables it.',
        **optimisation)


def parse_scales(text: str) -> Tuple[float, float]:
    """Parses --crop_scales.

    Raises:
        PSENetError: the text is not two ascending numbers above 0.
    """
    try:
        low, high = (float(part) for part in text.split(','))
    except ValueError:
        low = high = 0
    if not 0 < low <= high < float('inf'):
        raise PSENetError(f'--crop_scales={text} must be two ascending numbers, such as 0.7,2.3')
    return low, high


def _define_checkpoint_flags() -> None:
    checkpoints = group('checkpoints and logs')
    define_path(
        'checkpoint_path', _DEFAULTS.checkpoint_path,
        'Directory for checkpoints and TensorBoard events, created if missing.', **checkpoints)
    flags.DEFINE_boolean(
        'restore', _DEFAULTS.restore,
        'Continue from the newest checkpoint in --checkpoint_path.', **checkpoints)
    flags.DEFINE_boolean(
        'overwrite', _DEFAULTS.overwrite,
        'Start a new run in a directory with a checkpoint; removes only files that the earlier run '
        'wrote.', **checkpoints)
    flags.DEFINE_integer(
        'save_checkpoint_steps', _DEFAULTS.save_checkpoint_steps,
        'Steps between checkpoints; one is also saved at the end and on Ctrl-C, SIGTERM, SIGHUP '
        'and SIGUSR1.', **checkpoints)
    flags.DEFINE_integer(
        'keep_checkpoints', _DEFAULTS.keep_checkpoints,
        'Number of checkpoints to keep; older ones of this run are removed.', **checkpoints)
    flags.DEFINE_integer(
        'save_summary_steps', _DEFAULTS.save_summary_steps,
        'Steps between TensorBoard summaries (losses, learning rate, images).', **checkpoints)


def train_config_from_flags(flag_values: flags.FlagValues) -> TrainConfig:
    """Reads and checks the flags of ``define_train_flags``.

    Args:
        flag_values: the parsed absl flags.

    Returns:
        The run's configuration.

    Raises:
        PSENetError: a value or a combination is invalid; the message names the flag.
    """
    config = read_flags(flag_values)
    if config.restore:
        given = [name for name in _RUN_FLAGS if flag_values[name].present]
        config = with_flags_of_run(config, given)
    validate(config)
    return config


def read_flags(flag_values: flags.FlagValues) -> TrainConfig:
    """Reads the defined flags of ``define_train_flags``, with the values of the recipe."""
    config = TrainConfig(**{name: getattr(flag_values, name) for name in TrainConfig._fields
                            if name in flag_values})
    if config.recipe != 'modern':
        return config
    return config._replace(**{name: value for name, value in MODERN.items()
                              if name in flag_values and not flag_values[name].present})


def run_flags(config: TrainConfig) -> Dict[str, Any]:
    """Returns the flag values that a run's directory stores for ``--restore``."""
    values = {name: getattr(config, name) for name in _RUN_FLAGS}
    sets = split_mixture(config.training_data_path)
    return {**values, 'training_data_path': os.path.abspath(sets[0][0]) if len(sets) == 1 else (
        ','.join(f'{os.path.abspath(directory)}:{weight:g}' for directory, weight in sets))}


def with_flags_of_run(config: TrainConfig, given: Collection[str]) -> TrainConfig:
    """Adopts the stored flags of a run to be restored, and logs them.

    Args:
        config: configuration from the flags.
        given: names of the flags that the user gave, whose values are kept; those that differ from
            the stored ones are logged.

    Returns:
        The updated configuration.

    Raises:
        PSENetError: a stored value has another type than its flag.
    """
    manifest = Manifest(config.checkpoint_path)
    stored = {name: manifest.flags[name] for name in _RUN_FLAGS if name in manifest.flags}
    if not manifest.checkpoints:
        return config
    if manifest.checkpoints[-1].endswith(checkpoint_name(stored.get('max_steps', 0))):
        # The run was complete and is to be extended.
        reached = stored.pop('max_steps', 0)
        if 'max_steps' not in given and config.max_steps > reached:
            logger.warning('the run had reached its --max_steps=%d; it continues to the default, '
                           '--max_steps=%d', reached, config.max_steps)
    for name, value in stored.items():
        if type(value) is not type(getattr(_DEFAULTS, name)):
            raise PSENetError(f'{os.path.join(config.checkpoint_path, MANIFEST)} has an invalid '
                              f'value {name}={value!r}; give --{name}, or remove the entry')
    now = run_flags(config)
    for name in given:
        if stored.get(name, now[name]) != now[name]:
            logger.warning('--%s=%s replaces the value %s of the run', name, now[name],
                           stored[name])
    taken = {name: value for name, value in stored.items() if name not in given}
    changed = [f'--{name}={value}' for name, value in taken.items() if value != now[name]]
    if changed:
        logger.info('the run continues with its %s (%s)', ' '.join(changed), MANIFEST)
    return config._replace(**taken)


def validate(config: TrainConfig) -> None:
    """Rejects invalid settings before anything is started.

    Raises:
        PSENetError: the first fault found.
    """
    parse_scales(config.crop_scales)
    for fault in _value_faults(config) + _pair_faults(config):
        raise PSENetError(fault)


def _value_faults(config: TrainConfig) -> List[str]:
    faults = []
    for name, least in _LEAST.items():
        if getattr(config, name) < least:
            faults.append(f'--{name}={getattr(config, name)} must be at least {least}')
    if config.input_size % cfg.SIDE_MULTIPLE:
        faults.append(f'--input_size={config.input_size} must be a multiple of {cfg.SIDE_MULTIPLE}')
    if config.max_steps > _MAX_STEPS:
        faults.append(f'--max_steps={config.max_steps} must be at most {_MAX_STEPS}')
    for name in ('learning_rate', 'backbone_rate'):
        if not 0 < getattr(config, name) < float('inf'):
            faults.append(f'--{name}={getattr(config, name):g} must be a positive number')
    for name in ('moving_average_decay', 'batch_norm_decay'):
        if not 0 <= getattr(config, name) < 1:
            faults.append(f'--{name}={getattr(config, name):g} must be at least 0 and less than 1')
    return faults + _range_faults(config)


def _range_faults(config: TrainConfig) -> List[str]:
    faults = []
    if not 0 <= config.min_crop_side_ratio <= 1:
        faults.append(f'--min_crop_side_ratio={config.min_crop_side_ratio:g} must be between 0 and '
                      '1')
    if config.seed is not None and not 0 <= config.seed < 2 ** 32:
        faults.append(f'--seed={config.seed} must be between 0 and 2**32 - 1')
    return faults


def _pair_faults(config: TrainConfig) -> List[str]:
    faults = []
    if not config.training_data_path:
        faults.append('--training_data_path is empty; give the directory with the training images')
    else:
        faults += [f'--training_data_path={directory} is not a directory; give the one with the '
                   'training images and their labels'
                   for directory, _ in split_mixture(config.training_data_path)
                   if not os.path.isdir(directory)]
    if not config.checkpoint_path:
        faults.append('--checkpoint_path is empty; give a directory for checkpoints')
    elif os.path.exists(config.checkpoint_path) and not os.path.isdir(config.checkpoint_path):
        faults.append(f'--checkpoint_path={config.checkpoint_path} is a file; give a directory')
    if config.crop != 'scaled' and (config.flip or config.max_rotation):
        faults.append('--flip and --max_rotation need --crop=scaled')
    if config.restore and config.overwrite:
        faults.append('--restore continues the run in --checkpoint_path and --overwrite replaces '
                      'it; give one of them')
    return faults
