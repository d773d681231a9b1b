"""The configuration of a training run, as one frozen tuple, and the flags that fill it.

The defaults are the published ones. Only entry scripts read flags; the rest of the package gets a
TrainConfig.
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
    """A training run; the field names are the flag names, units are in the flags' help."""

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


# What --recipe=modern says where no flag says otherwise; docs/training.md tells what each is for.
MODERN: Dict[str, Any] = {
    'crop': 'scaled', 'flip': True, 'max_rotation': 10.0, 'colour_jitter': True,
    'soft_labels': True, 'loss': 'hard_negatives', 'optimizer': 'adamw', 'backbone_rate': 0.5,
    'schedule': 'cosine', 'warmup_steps': 500, 'clip_norm': 5.0, 'pretrained_statistics': True,
    'measured_batches': 200, 'learning_rate': 3e-4, 'moving_average_decay': 0.999,
    'batch_norm_decay': 0.99,
}
# Of nets.backbones, which would load TensorFlow.
BACKBONES = ('resnet_v1_50', 'resnet_v1_101', 'resnet_v1_152')
_DEFAULTS = TrainConfig()
# Kept with a run, so that --restore needs none of them again; the seed is kept apart, as it may
# have been drawn.
_RUN_FLAGS = ('training_data_path', 'input_size', 'batch_size_per_gpu', 'min_crop_side_ratio',
              'max_image_pixels', 'apply_exif_orientation', 'dataset', 'label_path',
              'recipe', *MODERN, 'crop_scales', 'backbone', 'scale_learning_rate', 'max_steps',
              'save_checkpoint_steps', 'keep_checkpoints', 'save_summary_steps')
# global_step is float32, as in published checkpoints: beyond this, adding 1 changes nothing.
_MAX_STEPS = 2 ** 24
_LEAST = {'max_rotation': 0, 'warmup_steps': 0, 'clip_norm': 0, 'measured_batches': 0,
          'input_size': 1, 'batch_size_per_gpu': 1, 'num_readers': 1, 'cache_images_mb': 0,
          'max_image_pixels': 1, 'max_steps': 1, 'save_checkpoint_steps': 1, 'keep_checkpoints': 1,
          'save_summary_steps': 1}


def define_train_flags() -> None:
    """Defines the flags that every kind of device shares (absl; call once, in an entry script)."""
    define_folder_flags()
    define_sample_flags()
    _define_reader_flags()
    _define_optimisation_flags()
    _define_recipe_flags()
    _define_checkpoint_flags()


def define_folder_flags() -> None:
    """Defines the flags that select the images of a folder, for training and the data tools."""
    data = group('data')
    define_path(
        'training_data_path', _DEFAULTS.training_data_path,
        'Folder with the training images and, beside them or in labels, gt or annotations, their '
        'labels; docs/data.md has the forms. Several are mixed by weight: A:0.5,B:0.5.', **data)
    define_path('label_path', _DEFAULTS.label_path, 'Folder with the labels, where they do not '
                'lie with the images.', **data)
    flags.DEFINE_enum(
        'dataset', _DEFAULTS.dataset, [AUTO, *DATASETS],
        'Form of the labels; auto finds it by what they look like, and logs it.', **data)
    flags.DEFINE_integer(
        'max_image_pixels', _DEFAULTS.max_image_pixels,
        'An image with more pixels is left out, before it takes any memory.', **data)
    flags.DEFINE_boolean(
        'apply_exif_orientation', _DEFAULTS.apply_exif_orientation,
        'Turn images as their EXIF orientation says, for labels that were drawn on upright images; '
        'most data sets were labelled on the stored pixels.', **data)
    flags.DEFINE_float(
        'min_crop_side_ratio', _DEFAULTS.min_crop_side_ratio,
        'A random crop with a side shorter than this share of the image is rejected.', **data)


def define_sample_flags() -> None:
    """Defines the flags that, besides the folder, determine the training samples."""
    data = group('data')
    flags.DEFINE_integer(
        'input_size', _DEFAULTS.input_size,
        'Side in pixels of the square crops that the network trains on; a multiple of 32.', **data)
    flags.DEFINE_integer(
        'batch_size_per_gpu', _DEFAULTS.batch_size_per_gpu,
        'Samples in a batch on each device; the dice sums of the loss run over such a batch.',
        **data)
    flags.DEFINE_integer(
        'seed', _DEFAULTS.seed,
        'Seed of initial weights, sample order and augmentation; when not given, drawn and logged, '
        'and with --restore that of the run that goes on.',
        **data)
    flags.DEFINE_enum(
        'recipe', _DEFAULTS.recipe, ['reference', 'modern'], 'Values of the flags that are not '
        'given: reference, as published; modern, those of docs/training.md.', **data)
    flags.DEFINE_enum(
        'crop', _DEFAULTS.crop, CROPS, 'How images are cut: stretched, between texts, as the '
        'reference does; scaled, a square window around a text, its aspect kept.', **data)
    flags.DEFINE_string(
        'crop_scales', _DEFAULTS.crop_scales, 'With --crop=scaled: least and largest factor of the '
        'image.', **data)
    flags.DEFINE_boolean('flip', _DEFAULTS.flip, 'With --crop=scaled: mirror half of the crops.',
                         **data)
    flags.DEFINE_float(
        'max_rotation', _DEFAULTS.max_rotation, 'With --crop=scaled: degrees that crops are turned '
        'by, at most.', **data)
    flags.DEFINE_boolean(
        'colour_jitter', _DEFAULTS.colour_jitter, 'Vary brightness, contrast and saturation.',
        **data)
    flags.DEFINE_boolean(
        'soft_labels', _DEFAULTS.soft_labels, 'Give each cell of the score maps the mean of its 16 '
        "pixels; the reference takes one that is 1.5 pixels off the cell's middle.", **data)


def _define_reader_flags() -> None:
    data = group('data')
    flags.DEFINE_integer(
        'num_readers', _DEFAULTS.num_readers,
        'Processes that read and augment samples; at most 16 are started.', **data)
    flags.DEFINE_integer(
        'cache_images_mb', _DEFAULTS.cache_images_mb,
        'Memory in MB that all readers of a process may use to keep decoded images, shared out '
        'evenly; 0 keeps none.', **data)
    unused = 'Accepted because published commands carry it, and never used, as in the reference.'
    flags.DEFINE_integer('max_image_large_side', 1280, unused, **data)
    flags.DEFINE_integer('max_text_size', 800, unused, **data)
    flags.DEFINE_integer('min_text_area_size', 10, unused, **data)


def _define_optimisation_flags() -> None:
    optimisation = group('optimisation')
    flags.DEFINE_float(
        'learning_rate', _DEFAULTS.learning_rate,
        "Adam's learning rate before --schedule and --warmup_steps.", **optimisation)
    flags.DEFINE_boolean(
        'scale_learning_rate', _DEFAULTS.scale_learning_rate,
        'Multiply --learning_rate by the number of processes that train together.', **optimisation)
    flags.DEFINE_integer(
        'max_steps', _DEFAULTS.max_steps,
        'Step at which the run ends, counted over all its restarts.', **optimisation)
    flags.DEFINE_float(
        'moving_average_decay', _DEFAULTS.moving_average_decay,
        'Decay of the moving average of the weights that eval.py uses; at step n no more than '
        '(1 + n) / (10 + n).', **optimisation)
    flags.DEFINE_float(
        'batch_norm_decay', _DEFAULTS.batch_norm_decay,
        "Decay of batch normalisation's moving mean and variance; lower it (0.9) for runs of some "
        'hundred steps.', **optimisation)
    define_path(
        'pretrained_model_path', _DEFAULTS.pretrained_model_path,
        'What to start from: the ImageNet checkpoint of slim (resnet_v1_50.ckpt) for the backbone, '
        'or a trained detector, for fine-tuning.',
        **optimisation)


def _define_recipe_flags() -> None:
    optimisation = group('optimisation')
    flags.DEFINE_enum(
        'backbone', _DEFAULTS.backbone, BACKBONES, 'Network that the pyramid stands on; '
        'kept with the run, so that eval.py and export need no flag.', **optimisation)
    flags.DEFINE_enum(
        'loss', _DEFAULTS.loss, ['reference', 'hard_negatives'], 'What is minimised: reference, '
        'dice over the batch; hard_negatives, dice of squares in each image, three hard negatives '
        'a text cell, and cross entropy.', **optimisation)
    flags.DEFINE_enum(
        'optimizer', _DEFAULTS.optimizer, ['adam', 'adamw'], 'What takes the steps: adam, with L2 '
        'regularisers of 1e-5; adamw, with a decoupled weight decay of 0.01.', **optimisation)
    flags.DEFINE_float(
        'backbone_rate', _DEFAULTS.backbone_rate, 'Factor of the learning rate for the backbone.',
        **optimisation)
    flags.DEFINE_enum(
        'schedule', _DEFAULTS.schedule, ['exponential', 'cosine'], 'How the learning rate falls: '
        'exponential, times 0.94 every 10,000 steps; cosine, to 0 at --max_steps.', **optimisation)
    flags.DEFINE_integer(
        'warmup_steps', _DEFAULTS.warmup_steps, 'Steps over which the learning rate rises.',
        **optimisation)
    flags.DEFINE_float(
        'clip_norm', _DEFAULTS.clip_norm, 'Global norm that gradients are clipped to; 0 leaves '
        'them.', **optimisation)
    flags.DEFINE_boolean(
        'pretrained_statistics', _DEFAULTS.pretrained_statistics, "Take batch norm's statistics "
        'from a backbone of --pretrained_model_path too; the reference takes weights alone.',
        **optimisation)
    flags.DEFINE_integer(
        'measured_batches', _DEFAULTS.measured_batches, "At the end of a run, batch norm's "
        'statistics are measured anew for the averaged weights over so many batches; 0 leaves '
        'them.', **optimisation)


def parse_scales(text: str) -> Tuple[float, float]:
    """Reads --crop_scales.

    Raises:
        PSENetError: it is not two ascending numbers above 0.
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
        'Folder for checkpoints and TensorBoard events; made when it does not exist.',
        **checkpoints)
    flags.DEFINE_boolean(
        'restore', _DEFAULTS.restore,
        'Go on from the newest checkpoint in --checkpoint_path.', **checkpoints)
    flags.DEFINE_boolean(
        'overwrite', _DEFAULTS.overwrite,
        'Start anew in a folder that holds a checkpoint; removes the files of the earlier run that '
        'training itself wrote, and nothing else.', **checkpoints)
    flags.DEFINE_integer(
        'save_checkpoint_steps', _DEFAULTS.save_checkpoint_steps,
        'Steps between checkpoints; one is always saved at the end and on Ctrl-C, SIGTERM, '
        'SIGHUP and SIGUSR1.',
        **checkpoints)
    flags.DEFINE_integer(
        'keep_checkpoints', _DEFAULTS.keep_checkpoints,
        'Newest checkpoints that are kept; older ones of this run are removed.', **checkpoints)
    flags.DEFINE_integer(
        'save_summary_steps', _DEFAULTS.save_summary_steps,
        'Steps between TensorBoard summaries (losses, learning rate, pictures).', **checkpoints)


def train_config_from_flags(flag_values: flags.FlagValues) -> TrainConfig:
    """Reads and checks the flags of ``define_train_flags``.

    Args:
        flag_values: the parsed absl flags.

    Returns:
        The run's configuration.

    Raises:
        PSENetError: a value or a pair of values cannot work; the sentence names the flag.
    """
    config = read_flags(flag_values)
    if config.restore:
        given = [name for name in _RUN_FLAGS if flag_values[name].present]
        config = with_flags_of_run(config, given)
    validate(config)
    return config


def read_flags(flag_values: flags.FlagValues) -> TrainConfig:
    """Reads the flags of ``define_train_flags`` that are defined, with the recipe's values."""
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
        ','.join(f'{os.path.abspath(folder)}:{weight:g}' for folder, weight in sets))}


def with_flags_of_run(config: TrainConfig, given: Collection[str]) -> TrainConfig:
    """Adopts the flags of the run to be restored, and logs them.

    Args:
        config: of the run that goes on.
        given: names of the flags that the user gave; these are kept, and a message names each that
            differs from the run's.

    Returns:
        The configuration to go on with.

    Raises:
        PSENetError: a stored value is not one of its flag.
    """
    manifest = Manifest(config.checkpoint_path)
    stored = {name: manifest.flags[name] for name in _RUN_FLAGS if name in manifest.flags}
    if not manifest.checkpoints:
        return config
    if manifest.checkpoints[-1].endswith(checkpoint_name(stored.get('max_steps', 0))):
        # It had come to its end, and is to go on beyond that.
        reached = stored.pop('max_steps', 0)
        if 'max_steps' not in given and config.max_steps > reached:
            logger.warning('the run had reached its --max_steps=%d; as none is given now, it goes '
                           'on to --max_steps=%d, the default', reached, config.max_steps)
    for name, value in stored.items():
        if type(value) is not type(getattr(_DEFAULTS, name)):
            raise PSENetError(f'{os.path.join(config.checkpoint_path, MANIFEST)} has {name}='
                              f'{value!r}, which --{name} cannot be; give --{name}, or remove the '
                              'entry')
    now = run_flags(config)
    for name in given:
        if stored.get(name, now[name]) != now[name]:
            logger.warning('--%s=%s is given, and the run had %s until now', name, now[name],
                           stored[name])
    taken = {name: value for name, value in stored.items() if name not in given}
    changed = [f'--{name}={value}' for name, value in taken.items() if value != now[name]]
    if changed:
        logger.info('the run goes on with its own %s (%s)', ' '.join(changed), MANIFEST)
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
        faults.append('--training_data_path is empty; name the folder with the training images')
    else:
        faults += [f'--training_data_path={folder} is not a directory; name the one with the '
                   'training images and their labels'
                   for folder, _ in split_mixture(config.training_data_path)
                   if not os.path.isdir(folder)]
    if not config.checkpoint_path:
        faults.append('--checkpoint_path is empty; name the folder for checkpoints')
    elif os.path.exists(config.checkpoint_path) and not os.path.isdir(config.checkpoint_path):
        faults.append(f'--checkpoint_path={config.checkpoint_path} is a file; name a folder')
    if config.crop != 'scaled' and (config.flip or config.max_rotation):
        faults.append('--flip and --max_rotation turn scaled crops alone; give --crop=scaled too')
    if config.restore and config.overwrite:
        faults.append('--restore goes on with the run in --checkpoint_path and --overwrite starts '
                      'it anew; give one of them')
    return faults
