"""Training through NPUEstimator by the real script over the fake adapter, against session style.

Every run is without TensorFlow's own rewrites of the graph, so that equal means to the last bits.
The same step overflows in each.
"""

import json
import os
import re

import numpy as np
import pytest

from tests.test_npu_train import Place
from training.checkpoints import open_checkpoint

INTERVALS = ('--save_checkpoint_steps=2',)
LOOPS = ('--api=estimator', '--iterations_per_loop=2', '--save_summary_steps=2')


@pytest.fixture(scope='module')
def place(project_root, tmp_path_factory):
    """Where the runs of this module take place."""
    with Place(project_root, tmp_path_factory.mktemp('estimator')) as place:
        yield place


def train(place, run_name, overflow, *flags, **variables):
    """A run that ends well: its log."""
    exit_code, log = place.on_npu(
        run_name, *INTERVALS, *flags, FAKE_NPU_OVERFLOW_STEPS=overflow,
        FAKE_NPU_WITHOUT_REWRITES='1', **variables)
    assert exit_code == 0, log
    return log


def go_on(place, run_name, source, *flags, **variables):
    """Goes on with the second step of another run, whose third step overflows at first."""
    (place.directory / run_name).mkdir()
    for path in (place.directory / source).glob('model.ckpt-2.*'):
        os.link(str(path), str(place.directory / run_name / path.name))
    return train(place, run_name, '1', '--restore', '--max_steps=4', *flags, **variables)


@pytest.fixture(scope='module')
def session(place):
    """Five steps in session style."""
    return train(place, 'session', '3', '--max_steps=5')


@pytest.fixture(scope='module')
def estimator(place):
    """Four steps through NPUEstimator."""
    return train(place, 'estimator', '3', '--api=estimator', '--max_steps=4',
                 FAKE_NPU_RECORD=str(place.directory / 'estimator.record'))


@pytest.fixture(scope='module')
def looping(place, session):
    """The session's run goes on through the newest NPUEstimator, two steps at a time."""
    return go_on(place, 'looping', 'session', *LOOPS, FAKE_NPU_RELEASE='master')


def assert_same_checkpoint(place, step, run_name, other):
    """Names, dtypes and values."""
    ours, theirs = (open_checkpoint(str(place.directory / name / (f'model.ckpt-{step}')))
                    for name in (run_name, other))
    assert ours.shapes == theirs.shapes
    for name in theirs.shapes:
        value, expected = ours.reader.get_tensor(name), theirs.reader.get_tensor(name)
        assert value.dtype == expected.dtype
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_each_step_reports_what_it_does_in_session_style(place, session, estimator):
    ours, theirs = place.curves('estimator'), place.curves('session')
    assert sorted(ours) == sorted(theirs)
    for tag, curve in ours.items():
        assert sorted(curve) == [1, 2, 3, 4]
        for step, value in curve.items():
            assert value == pytest.approx(theirs[tag][step], abs=1e-6, rel=1e-6), (tag, step)


def test_a_step_that_overflows_is_left_out(estimator):
    assert re.findall(r'step (\d+): the gradients overflowed, update skipped', estimator
                      ) == ['3']


def test_the_device_gets_one_set_of_fetches_and_no_feeds(place, estimator):
    lines = (place.directory / 'estimator.record').read_text().splitlines()
    runs = [event for event in map(json.loads, lines) if event.get('kind') == 'train']
    assert [run['feeds'] for run in runs] == [{}]


def test_it_leaves_the_same_files(place, session, estimator):
    assert place.checkpoints('estimator') == [2, 4]
    names = {re.sub(r'\d+\..*\.psenet|-\d+', '', path.name)
             for path in (place.directory / 'estimator').iterdir()}
    assert names == {re.sub(r'\d+\..*\.psenet|-\d+', '', path.name)
                     for path in (place.directory / 'session').iterdir()}
    assert_same_checkpoint(place, 4, 'estimator', 'session')


def test_a_session_goes_on_where_it_stopped(place, session, estimator):
    go_on(place, 'from_estimator', 'estimator')
    assert_same_checkpoint(place, 4, 'from_estimator', 'session')


def test_it_goes_on_where_a_session_stopped_in_loops(place, session, looping):
    assert re.search(r'restored \S+-2\n', looping)
    assert re.search(r'up to step 3: the gradients overflowed, update skipped', looping)
    assert place.checkpoints('looping') == [2, 5]    # the loop that reaches step 4 ends there
    assert_same_checkpoint(place, 5, 'looping', 'session')


def test_a_mistake_gets_one_sentence(place):
    exit_code, log = place.on_npu('no', *LOOPS, '--max_steps=5')
    assert exit_code == 1
    assert log == 'error: --max_steps=5 must be a multiple of --iterations_per_loop=2\n'
