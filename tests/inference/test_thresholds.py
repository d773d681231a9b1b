"""Thresholds beside a checkpoint: who follows them, and when they are not to be trusted."""

import json

import pytest

from inference.config import DetectConfig
from inference.thresholds import SUFFIX, Thresholds, follow_thresholds, write_thresholds
from utils.errors import PSENetError

CHOSEN = Thresholds(0.75, 12, 9)


@pytest.fixture
def prefix(tmp_path):
    """A checkpoint, as far as names and content go."""
    for suffix in ('.index', '.data-00000-of-00001'):
        (tmp_path / f'model.ckpt-7{suffix}').write_bytes(b'weights')
    return str(tmp_path / 'model.ckpt-7')


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    caplog.set_level('INFO')
    return caplog


def followed(path, *given, **values):
    """The thresholds that a run with this checkpoint uses."""
    config = follow_thresholds(DetectConfig(checkpoint_path=str(path), **values), given)
    return Thresholds(*(getattr(config, name) for name in Thresholds._fields))


def test_without_a_file_the_flags_count(prefix, messages):
    assert followed(prefix, min_area_thresh=3) == Thresholds(min_area_thresh=3)
    assert not [record for record in messages.records if record.name == 'psenet']


def test_what_was_written_is_followed_and_said(prefix, tmp_path, messages):
    path = write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {'hmean': 0.5})
    assert path == prefix + SUFFIX
    assert followed(tmp_path) == followed(prefix + '.index') == CHOSEN
    assert messages.messages[0] == f'using {path}: {CHOSEN.flags()}'


def test_flags_that_are_given_count_instead(prefix, messages):
    write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {})
    assert followed(prefix, 'min_area_thresh', min_area_thresh=6) == CHOSEN._replace(
        min_area_thresh=6)
    assert 'min_area_thresh' not in messages.text
    messages.clear()
    assert followed(prefix, *Thresholds._fields, 'short_side') == Thresholds()
    assert not [record for record in messages.records if record.name == 'psenet']


def test_the_test_size_is_followed_where_no_other_is_given(prefix, messages):
    write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {'short_side': 1024})
    config = DetectConfig(checkpoint_path=prefix)
    assert follow_thresholds(config, []).short_side == 1024
    assert '--short_side=1024' in messages.text
    for given in ('short_side', 'long_side', 'max_side_len'):
        assert follow_thresholds(config, [given]).short_side == 0


def test_a_file_of_an_earlier_version_lacks_the_later_thresholds(prefix, messages):
    path = write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {})
    with open(path) as file:
        content = json.load(file)
    del content['min_score'], content['min_region_area']
    with open(path, 'w') as file:
        json.dump(content, file)
    assert followed(prefix, min_score=0.5) == CHOSEN._replace(min_score=0.5)
    assert 'min_score' not in messages.text


def test_another_checkpoint_of_the_same_name_is_not_served(prefix, messages):
    write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {})
    with open(prefix + '.index', 'wb') as file:
        file.write(b'of a later training')
    assert followed(prefix) == Thresholds()
    assert 'another checkpoint' in messages.text


@pytest.mark.parametrize('change', [
    {'seg_map_thresh': 'high'}, {'seg_map_thresh': 1.5}, {'min_area_thresh': None},
    {'min_box_side': -1}])
def test_a_damaged_file_is_named(prefix, change):
    path = write_thresholds(DetectConfig(checkpoint_path=prefix), CHOSEN, {})
    with open(path) as file:
        content = {**json.load(file), **change}
    with open(path, 'w') as file:
        json.dump(content, file)
    with pytest.raises(PSENetError, match=f'{SUFFIX} has no valid thresholds .* --write'):
        followed(prefix)


def test_a_file_without_thresholds_is_named(prefix):
    with open(prefix + SUFFIX, 'w') as file:
        file.write('[1, 2')
    with pytest.raises(PSENetError, match='has no valid thresholds'):
        followed(prefix)
