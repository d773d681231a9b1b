"""The kills of `make soak`, few and with a small network; its faults are left to it."""

import os
from unittest import mock

import pytest

from tests.small_network import sitecustomize as small_network
from tests.soak import __main__ as command
from tests.soak.faults import Place
from tests.soak.kills import kill_and_go_on
from tests.soak.training_run import remove
from tools.demo_data import ensure_dataset

pytestmark = pytest.mark.timeout(3000)  # for a machine that does a lot besides
KILLS = 3


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Data, and room for runs, which have a small network."""
    directory = tmp_path_factory.mktemp('soak')
    ensure_dataset(str(directory / 'data'), command.DATA)
    with mock.patch.dict(os.environ, PYTHONPATH=small_network.PYTHONPATH):
        yield Place(directory / 'data' / 'train', directory / 'run')
    for name in ('run', 'unlucky', 'killed', 'moved'):
        remove(directory / name)


def test_killed_runs_go_on(place):
    figures = kill_and_go_on(place.data, place.directory.with_name('killed'), KILLS, seed=1,
                             seconds=float('inf'))
    assert figures.kills == KILLS
    assert figures.last_step > 0
    assert str(figures).startswith('3 kills survived')


def test_what_does_not_hold_is_told(monkeypatch, capsys):
    def fail(_folder, _seconds):
        raise AssertionError('step 3 is lost')
    monkeypatch.setattr(command, 'soak', fail)
    assert command.main() == 1
    assert 'This did not hold: step 3 is lost' in capsys.readouterr().out


def test_the_time_can_be_set(monkeypatch, capsys):
    monkeypatch.setenv('SOAK_SECONDS', '7')
    monkeypatch.setattr(command, 'soak', lambda _, seconds: {'a': str(seconds), 'SIGKILL': ''})
    assert command.main() == 0
    assert '1 faults besides kills survived' in capsys.readouterr().out
