"""Following a training: what is kept, what is remembered, and what may vanish meanwhile."""

import contextlib
import os
import shutil

import pytest
import tensorflow as tf

from evaluation.report import Score
from inference.config import DetectConfig
from tools.curves import read_scalars
from tools.scoring import follower as follower_module
from tools.scoring.follower import Follower, Places, Settings
from training.checkpoints import resolve_checkpoint
from training.run_folder import CheckpointError, files_of, find_checkpoints
from utils.errors import PSENetError

DATA = '.data-00000-of-00001'
SETTINGS = Settings(0.9, 6, 0, 2400, 4, 'abc')


class Training:
    """A directory of checkpoints whose data is the Hmean that they score, and its follower."""

    def __init__(self, directory):
        self.directory = directory / 'run'
        self.best = self.directory / 'best'
        self.directory.mkdir()
        self.scored = []
        self.before_score = self.after_image = lambda: None

    def save(self, step, hmean):
        for suffix in (DATA, '.index'):
            (self.directory / f'model.ckpt-{step}{suffix}').write_text(str(hmean))

    def remove(self, step):
        for path in files_of(str(self.directory / f'model.ckpt-{step}')):
            os.remove(path)

    def score(self, prefix, _, __, after_image):
        """Stands in for the network and the scoring of its boxes."""
        self.before_score()
        after_image()
        self.after_image()
        self.scored.append(os.path.basename(prefix))
        with open(prefix + DATA) as file:
            text = file.read()
        if text == 'damaged':
            raise CheckpointError(f'{prefix} is damaged')
        return Score(float(text) + 0.01, float(text) - 0.01, float(text), 0)

    def follower(self, keep=2):
        return Follower(Places(str(self.directory), str(self.best), keep), DetectConfig(), None,
                        SETTINGS)

    def once(self, **kwargs):
        follower = self.follower(**kwargs)
        try:
            return follower.once()
        finally:
            follower.close()

    def kept(self):
        return {os.path.basename(prefix): open(prefix + DATA).read()
                for prefix in find_checkpoints(str(self.best))}


@pytest.fixture
def training(tmp_path, monkeypatch):
    training = Training(tmp_path)
    monkeypatch.setattr(follower_module, 'open_detector',
                        lambda config, _: contextlib.nullcontext(config.checkpoint_path))
    monkeypatch.setattr(follower_module, 'score_detector', training.score)
    return training


@pytest.fixture
def three(training):
    """A training with three checkpoints, the second of which is best."""
    for step, hmean in ((10, 0.3), (20, 0.8), (30, 0.5)):
        training.save(step, hmean)
    assert training.once() == 0
    return training


def test_the_best_are_kept_whole_and_the_folder_means_the_best(three):
    assert three.scored == ['model.ckpt-10', 'model.ckpt-20', 'model.ckpt-30']
    assert three.kept() == {'model.ckpt-20': '0.8', 'model.ckpt-30': '0.5'}
    assert os.listdir(str(three.best / 'waiting')) == []
    assert resolve_checkpoint(str(three.best)) == str(three.best / 'model.ckpt-20')
    assert tf.train.latest_checkpoint(str(three.best)) == str(three.best / 'model.ckpt-20')


def test_they_stay_when_training_removes_its_own(three):
    for step in (10, 20, 30):
        three.remove(step)
    three.save(40, 0.6)
    assert three.once() == 0
    assert three.kept() == {'model.ckpt-20': '0.8', 'model.ckpt-40': '0.6'}


def test_nothing_is_scored_twice(three):
    assert three.once() == 0
    assert len(three.scored) == 3


def test_what_is_removed_during_a_scoring_is_there_for_the_next(training):
    training.save(10, 0.3)
    training.save(20, 0.8)
    training.before_score = lambda: training.remove(20)
    assert training.once() == 0
    assert training.kept() == {'model.ckpt-10': '0.3', 'model.ckpt-20': '0.8'}


def test_what_comes_and_goes_during_a_scoring_is_there_for_the_next(training):
    training.save(10, 0.3)
    training.before_score = lambda: training.scored or training.save(20, 0.8)
    training.after_image = lambda: training.remove(20)
    assert training.once() == 0
    assert training.kept() == {'model.ckpt-10': '0.3', 'model.ckpt-20': '0.8'}


def test_what_is_removed_before_it_is_fetched_is_no_error(training, monkeypatch):
    training.save(10, 0.3)
    fetch = follower_module.BestCheckpoints.fetch

    def late(gallery, prefix):
        os.remove(prefix + '.index')
        return fetch(gallery, prefix)
    follower = training.follower()
    with monkeypatch.context() as patch:
        patch.setattr(follower_module.BestCheckpoints, 'fetch', late)
        follower._score_all()
    assert os.listdir(str(training.best / 'waiting')) == []
    training.save(20, 0.4)
    assert follower.once() == 0
    assert training.kept() == {'model.ckpt-20': '0.4'}


def test_half_a_checkpoint_is_left_alone_until_it_is_whole(training):
    training.save(10, 0.3)
    os.remove(str(training.directory / f'model.ckpt-10{DATA}'))
    follower = training.follower()
    follower._score_all()
    assert training.scored == []
    training.save(10, 0.3)
    assert follower.once() == 0
    assert training.kept() == {'model.ckpt-10': '0.3'}


def test_without_links_files_are_copied(training, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')
    monkeypatch.setattr(os, 'link', refuse)
    training.save(10, 0.3)
    assert training.once() == 0
    training.remove(10)
    assert training.kept() == {'model.ckpt-10': '0.3'}
    assert os.listdir(str(training.best / 'waiting')) == []


def test_an_end_before_the_table_is_written_changes_nothing(training, monkeypatch):
    training.save(10, 0.3)

    def killed(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(follower_module.ScoreLog, 'add', killed)
        with pytest.raises(KeyboardInterrupt):
            training.once()
    assert training.once() == 0
    assert training.scored == ['model.ckpt-10'] * 2
    assert training.kept() == {'model.ckpt-10': '0.3'}


def test_what_waited_when_a_process_ended_is_scored_by_the_next(training, monkeypatch):
    training.save(10, 0.3)

    def interrupt():
        raise KeyboardInterrupt
    training.before_score = interrupt
    with pytest.raises(KeyboardInterrupt):
        training.once()
    training.remove(10)
    training.before_score = lambda: None
    assert training.once() == 0
    assert training.kept() == {'model.ckpt-10': '0.3'}


def test_another_training_may_use_the_same_names(three):
    three.save(20, 0.9)
    assert three.once() == 0
    assert three.scored[3:] == ['model.ckpt-20']
    assert three.kept() == {'model.ckpt-20': '0.9', 'model.ckpt-30': '0.5'}


def test_a_damaged_checkpoint_is_named_and_the_others_are_scored(training, caplog, monkeypatch):
    monkeypatch.setattr('utils.utils_tool.logger.propagate', True)
    training.save(10, 'damaged')
    training.save(20, 0.4)
    assert training.once() == 1
    assert 'model.ckpt-10 is damaged; not scored' in caplog.text
    assert training.kept() == {'model.ckpt-20': '0.4'}
    assert training.scored.count('model.ckpt-10') == 1


def test_no_checkpoint_at_all_is_an_error_of_a_single_pass(training):
    with pytest.raises(PSENetError, match='no checkpoint in --checkpoint_path'):
        training.once()
    assert os.listdir(str(training.directory)) == []


def test_following_looks_again_after_the_interval(training, monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt
        training.save(10 * len(slept), 0.1 * len(slept))
    monkeypatch.setattr(follower_module.time, 'sleep', sleep)
    with pytest.raises(KeyboardInterrupt):
        training.follower().follow(7.5)
    assert slept == [7.5] * 3
    assert training.scored == ['model.ckpt-10', 'model.ckpt-20']


def test_files_of_others_in_the_folder_stay(three):
    for name in ('notes.txt', 'model.ckpt-5.index', f'model.ckpt-5{DATA}'):
        (three.best / name).write_text('mine')
    three.save(40, 0.9)
    assert three.once() == 0
    assert {'notes.txt', 'model.ckpt-5.index', f'model.ckpt-5{DATA}'} <= set(
        os.listdir(str(three.best)))


def test_tensorboard_shows_the_scores_of_all_processes(three):
    three.save(40, 0.6)
    assert three.once() == 0
    curves = read_scalars(str(three.directory / 'eval'), ('precision', 'recall', 'hmean'))
    assert curves['hmean'].steps.tolist() == [10, 20, 30, 40]
    assert curves['hmean'].values.tolist() == pytest.approx([0.3, 0.8, 0.5, 0.6])
    assert curves['precision'].values[3] == pytest.approx(0.61)
    assert curves['recall'].values[3] == pytest.approx(0.59)


def test_a_folder_that_cannot_be_written_is_named(training, monkeypatch):
    training.save(10, 0.3)

    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'link', full)
    monkeypatch.setattr(shutil, 'copyfile', full)
    with pytest.raises(PSENetError, match=r'No space left on device.*--best_path'):
        training.once()
