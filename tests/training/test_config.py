"""The published defaults, and a sentence for every value or pair that cannot work."""

import pathlib

import pytest
from absl import flags

from training.config import (
    MODERN,
    TrainConfig,
    define_train_flags,
    run_flags,
    train_config_from_flags,
    validate,
    with_flags_of_run,
)
from training.run_folder import Manifest
from utils.data_provider.augment import REFERENCE
from utils.errors import PSENetError

PUBLISHED = {
    'training_data_path': './ocr/icdar2015/', 'input_size': 512, 'batch_size_per_gpu': 8,
    'num_readers': 32, 'seed': None, 'min_crop_side_ratio': 0.1, 'learning_rate': 1e-5,
    'max_steps': 100000, 'moving_average_decay': 0.997, 'batch_norm_decay': 0.997,
    'pretrained_model_path': None, 'checkpoint_path': './resnet_train/', 'restore': False,
    'overwrite': False, 'save_checkpoint_steps': 1000, 'keep_checkpoints': 5,
    'save_summary_steps': 100, 'scale_learning_rate': False, 'cache_images_mb': 0,
    'max_image_pixels': 178956970, 'apply_exif_orientation': False, 'dataset': 'auto',
    'label_path': '', 'recipe': 'reference', 'crop': 'stretched', 'crop_scales': '0.7,2.3',
    'flip': False, 'max_rotation': 0, 'colour_jitter': False, 'soft_labels': False,
    'backbone': 'resnet_v1_50', 'loss': 'reference', 'optimizer': 'adam', 'backbone_rate': 1,
    'schedule': 'exponential', 'warmup_steps': 0, 'clip_norm': 0, 'pretrained_statistics': False,
    'measured_batches': 0,
}
ACCEPTED_AND_UNUSED = {'max_image_large_side': 1280, 'max_text_size': 800, 'min_text_area_size': 10}


@pytest.fixture
def train_flags():
    """The training flags, defined for a test; absl keeps one table for the whole process."""
    others = set(flags.FLAGS)
    define_train_flags()
    yield flags.FLAGS
    for name in set(flags.FLAGS) - others:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.fixture
def parse(train_flags, tmp_path):
    """parse('--flag=value', ...) -> the configuration; the data path is a directory that exists."""
    def parse_arguments(*arguments):
        train_flags(['train.py', f'--training_data_path={tmp_path}', *arguments])
        return train_config_from_flags(train_flags)
    return parse_arguments


@pytest.fixture
def config(tmp_path):
    """A configuration that works."""
    return TrainConfig(training_data_path=str(tmp_path), checkpoint_path=str(tmp_path / 'run'))


def test_defaults_are_the_published_ones():
    assert TrainConfig()._asdict() == PUBLISHED


@pytest.mark.parametrize('name, value', sorted({**PUBLISHED, **ACCEPTED_AND_UNUSED}.items()))
def test_flags_have_the_published_defaults(train_flags, name, value):
    assert train_flags[name].default == value


def test_flags_arrive_in_the_fields_of_their_names(parse, tmp_path):
    config = parse('--input_size=64', '--learning_rate=1e-3', '--restore', '--seed=3',
                   '--pretrained_model_path=a.ckpt', '--max_steps=20')
    assert config == TrainConfig(
        training_data_path=str(tmp_path), input_size=64, learning_rate=1e-3, restore=True, seed=3,
        pretrained_model_path='a.ckpt', max_steps=20)


def test_published_flags_that_are_not_used_are_accepted(parse, tmp_path):
    arguments = [f'--{name}=1' for name in ACCEPTED_AND_UNUSED]
    assert parse(*arguments) == TrainConfig(training_data_path=str(tmp_path))


def test_flags_are_checked(parse):
    with pytest.raises(PSENetError, match='--input_size=100 must be a multiple of 32'):
        parse('--input_size=100')


def test_a_configuration_that_works_is_accepted(config):
    validate(config)


@pytest.mark.parametrize('name, value', [
    ('input_size', 32), ('batch_size_per_gpu', 1), ('max_steps', 2 ** 24), ('seed', 0),
    ('seed', 2 ** 32 - 1), ('min_crop_side_ratio', 0), ('min_crop_side_ratio', 1),
    ('moving_average_decay', 0), ('batch_norm_decay', 0), ('learning_rate', 1e-30),
])
def test_limits_are_accepted(config, name, value):
    validate(config._replace(**{name: value}))


@pytest.mark.parametrize('name, value', [
    (name, value)
    for name in ('input_size', 'batch_size_per_gpu', 'num_readers', 'max_steps',
                 'save_checkpoint_steps', 'keep_checkpoints', 'save_summary_steps')
    for value in (0, -1)
] + [
    ('input_size', 100), ('max_steps', 2 ** 24 + 1),
    ('learning_rate', 0), ('learning_rate', -1e-5), ('learning_rate', float('nan')),
    ('learning_rate', float('inf')), ('moving_average_decay', 1), ('moving_average_decay', -0.1),
    ('batch_norm_decay', 1), ('batch_norm_decay', float('nan')), ('min_crop_side_ratio', -0.1),
    ('min_crop_side_ratio', 1.1), ('seed', -1), ('seed', 2 ** 32), ('cache_images_mb', -1),
    ('max_image_pixels', 0),
    ('training_data_path', ''), ('training_data_path', '/nowhere'),
    ('training_data_path', __file__),
    ('checkpoint_path', ''), ('checkpoint_path', __file__),
])
def test_a_value_that_cannot_work_is_named_with_its_flag(config, name, value):
    with pytest.raises(PSENetError, match=f'^--{name}') as caught:
        validate(config._replace(**{name: value}))
    assert str(value) in str(caught.value) or isinstance(value, float)
    assert '\n' not in str(caught.value)


def test_restore_and_overwrite_are_a_pair_that_cannot_work(config):
    with pytest.raises(PSENetError, match=r'--restore .* and --overwrite .*; give one of them'):
        validate(config._replace(restore=True, overwrite=True))


@pytest.fixture
def earlier(config):
    """A run that has saved a checkpoint, with flags of its own."""
    directory = pathlib.Path(config.checkpoint_path)
    directory.mkdir()
    (directory / 'model.ckpt-7.index').touch()
    run = config._replace(input_size=96, learning_rate=0.5, keep_checkpoints=30)
    manifest = Manifest(str(directory))
    manifest.flags = run_flags(run)
    manifest.replace([str(directory / 'model.ckpt-7')])
    return run


def test_a_restored_run_has_its_own_flags(train_flags, earlier, messages):
    train_flags(['train.py', '--restore', f'--checkpoint_path={earlier.checkpoint_path}'])
    assert train_config_from_flags(train_flags) == earlier._replace(restore=True)
    message, = messages()
    assert 'the run continues with its' in message
    assert '--learning_rate=0.5' in message
    assert 'batch_norm_decay' not in message


def test_a_flag_that_is_given_counts_and_is_told_of(train_flags, earlier, messages):
    train_flags(['train.py', '--restore', f'--checkpoint_path={earlier.checkpoint_path}',
                 '--learning_rate=0.25', '--input_size=96'])
    assert train_config_from_flags(train_flags) == earlier._replace(restore=True,
                                                                    learning_rate=0.25)
    assert messages()[0] == '--learning_rate=0.25 replaces the value 0.5 of the run'
    assert len(messages()) == 2


def test_a_run_that_had_come_to_its_end_goes_on_beyond_it(config, earlier, messages):
    assert with_flags_of_run(config, []).max_steps == 100000
    manifest = Manifest(config.checkpoint_path)
    manifest.flags['max_steps'] = 9
    manifest.replace(manifest.checkpoints)
    assert with_flags_of_run(config, []).max_steps == 9
    manifest.flags['max_steps'] = 7
    manifest.replace(manifest.checkpoints)
    assert with_flags_of_run(config, []).max_steps == 100000
    assert with_flags_of_run(config._replace(max_steps=20), ['max_steps']).max_steps == 20
    warning, = [text for text in messages() if 'had reached' in text]
    assert warning == ('the run had reached its --max_steps=7; it continues to the default, '
                       '--max_steps=100000')


def test_flags_of_a_run_are_not_taken_without_restore(train_flags, earlier):
    train_flags(['train.py', '--overwrite', f'--checkpoint_path={earlier.checkpoint_path}',
                 f'--training_data_path={earlier.training_data_path}'])
    assert train_config_from_flags(train_flags).learning_rate == 1e-5


def test_stored_flags_that_cannot_be_are_told_of(config, earlier):
    manifest = Manifest(config.checkpoint_path)
    manifest.flags['input_size'] = 'large'
    manifest.replace(manifest.checkpoints)
    with pytest.raises(PSENetError, match=r"training_files\.json .* input_size='large'"):
        with_flags_of_run(config, [])


def test_the_modern_recipe_fills_what_no_flag_gives(parse):
    assert parse().augmentation == REFERENCE
    config = parse('--recipe=modern', '--learning_rate=1e-4', '--noflip')
    assert {name: getattr(config, name) for name in MODERN} == {
        **MODERN, 'learning_rate': 1e-4, 'flip': False}
    assert config.augmentation == ('scaled', (0.7, 2.3), False, 10.0, True)


def test_a_restored_run_keeps_its_recipe(parse, tmp_path):
    directory = tmp_path / 'run'
    directory.mkdir()
    manifest = Manifest(str(directory))
    started = parse('--recipe=modern', '--warmup_steps=7', f'--checkpoint_path={directory}')
    manifest.flags = run_flags(started)
    manifest.add(str(directory / 'model.ckpt-3'))
    (directory / 'model.ckpt-3.index').write_text('')
    (directory / 'model.ckpt-3.data-00000-of-00001').write_text('')
    restored = parse('--restore', f'--checkpoint_path={directory}')
    assert restored == started._replace(restore=True)


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['--flip'], '--flip and --max_rotation need --crop=scaled'),
    (['--max_rotation=5'], 'need --crop=scaled'),
    (['--max_rotation=-5', '--crop=scaled'], '--max_rotation=-5.0 must be at least 0'),
    (['--crop_scales=2,1'], '--crop_scales=2,1 must be two ascending numbers'),
    (['--crop_scales=a'], '--crop_scales=a must be'), (['--crop_scales=0,nan'], 'must be two'),
    (['--backbone_rate=0'], '--backbone_rate=0 must be a positive number'),
    (['--clip_norm=-1'], '--clip_norm=-1.0 must be at least 0'),
    (['--warmup_steps=-1'], '--warmup_steps=-1 must be at least 0'),
])
def test_values_of_the_recipe_that_cannot_be(parse, arguments, sentence):
    with pytest.raises(PSENetError) as refused:
        parse(*arguments)
    assert sentence in str(refused.value)
