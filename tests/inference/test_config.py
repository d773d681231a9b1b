"""Flags of detection: published defaults, and what is refused before anything starts."""

import os

import pytest
from absl import flags

from inference.config import DetectConfig, detect_config_from_flags, validate
from utils.errors import PSENetError


def test_the_published_defaults_are_valid():
    config = DetectConfig()
    validate(config)
    assert (config.seg_map_thresh, config.min_area_thresh, config.max_side_len) == (0.9, 6, 2400)
    assert not config.no_write_images


@pytest.mark.parametrize(('name', 'value'), [
    ('seg_map_thresh', -0.1), ('seg_map_thresh', 1.0), ('seg_map_thresh', float('nan')),
    ('min_area_thresh', -1), ('min_box_side', -1), ('max_image_pixels', 0), ('max_side_len', 31),
    ('short_side', 31), ('long_side', -1),
    ('gpu_list', 'first'), ('test_data_path', ''), ('checkpoint_path', ''), ('output_dir', ''),
])
def test_a_bad_value_is_named(name, value):
    with pytest.raises(PSENetError, match=f'--{name}'):
        validate(DetectConfig()._replace(**{name: value}))


@pytest.mark.parametrize('value', ['', '0', '1,0'])
def test_gpu_lists_are_accepted(value):
    validate(DetectConfig()._replace(gpu_list=value))


def test_results_never_go_among_the_test_images(tmp_path):
    os.symlink(str(tmp_path), str(tmp_path / 'link'))
    with pytest.raises(PSENetError, match='--output_dir'):
        validate(DetectConfig(test_data_path=str(tmp_path), output_dir=str(tmp_path / 'link')))


def test_every_field_is_read_from_the_flag_of_its_name():
    values = flags.FlagValues()
    for name, default in DetectConfig()._asdict().items():
        define = flags.DEFINE_boolean if default is False else flags.DEFINE_string
        define(name, default if default is False else str(default), '', flag_values=values)
    values.mark_as_parsed()
    for name, value in {'seg_map_thresh': 0.5, 'min_area_thresh': 9, 'min_box_side': 0,
                        'max_side_len': 64, 'short_side': 0, 'long_side': 0, 'min_score': 0.0,
                        'min_region_area': 0,
                        'max_image_pixels': 10 ** 6}.items():
        values[name].value = value
    config = detect_config_from_flags(values)
    assert (config.seg_map_thresh, config.min_area_thresh, config.max_side_len) == (0.5, 9, 64)
    assert config.output_dir == DetectConfig().output_dir


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'engine': 'onnx'}, '--engine=onnx needs --model'),
    ({'engine': 'onnx', 'model': 'a.pb'}, r'--engine=onnx needs an \.onnx file'),
    ({'model': 'a.onnx'}, r'--model=a\.onnx is for --engine=onnx or openvino; give one'),
    ({'engine': 'openvino'}, '--engine=openvino needs --model'),
    ({'precision': 'auto'}, '--precision=auto is for --engine=openvino'),
    ({'model': 'a.pb', 'platform': 'npu'}, 'cannot be used with --platform=npu'),
    ({'engine': 'onnx', 'platform': 'npu'}, '--engine=onnx needs --model'),
    ({'min_score': 1.5}, '--min_score=1.5 must lie in 0 .. 1'),
    ({'min_region_area': -1}, '--min_region_area=-1 must be at least 0'),
    ({'tile': True, 'max_side_len': 671}, '--max_side_len=671 must be at least 672 with --tile'),
    ({'tile': True, 'platform': 'npu'}, '--tile cannot be used with --platform=npu'),
    ({'short_side': 736, 'long_side': 2240}, '--short_side=736 and --long_side=2240 both set'),
])
def test_flags_that_cannot_go_together_are_refused(changes, sentence):
    with pytest.raises(PSENetError, match=sentence):
        validate(DetectConfig()._replace(**changes))


@pytest.mark.parametrize('changes', [
    {'engine': 'onnx', 'model': 'a.ONNX'}, {'model': 'a.pb'}, {'model': 'saved_model/'}])
def test_engines_and_models_that_go_together_are_accepted(changes):
    validate(DetectConfig()._replace(**changes))
