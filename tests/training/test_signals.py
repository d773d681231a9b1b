"""When a signal stops training: at once, after the step in progress, or in earnest."""

import os
import signal
from types import SimpleNamespace

import pytest

from training import signals
from training.signals import GracefulStop, StopTraining
from utils.utils_tool import STOP_SIGNALS


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until ``clock.now`` is moved."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(signals, 'time', SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def stop():
    """A GracefulStop in force."""
    with GracefulStop() as stop:
        yield stop


def send(signum=signal.SIGTERM):
    """Signals this process."""
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize('signum, name, exit_code', [(signal.SIGINT, 'SIGINT', 130),
                                                     (signal.SIGTERM, 'SIGTERM', 143),
                                                     (signal.SIGHUP, 'SIGHUP', 129),
                                                     (signal.SIGUSR1, 'SIGUSR1', 138)])
def test_outside_of_a_step_a_signal_stops_at_once(stop, signum, name, exit_code):
    with pytest.raises(StopTraining, match=name) as caught:
        send(signum)
    assert caught.value.exit_code == exit_code
    assert not caught.value.at_once


def test_a_signal_is_kept_until_the_step_is_done(stop, messages):
    done = []
    with pytest.raises(StopTraining) as caught, stop.deferred():  # noqa: PT012 - what is tested
        send(signal.SIGINT)
        done.append('step')
    assert done == ['step']
    assert caught.value.exit_code == 130
    assert not caught.value.at_once
    assert 'SIGINT: finishing the step in progress' in messages()[0]


def test_without_a_signal_steps_end_quietly(stop):
    for _ in range(2):
        with stop.deferred():
            pass


def test_after_a_step_signals_stop_at_once_again(stop):
    with stop.deferred():
        pass
    with pytest.raises(StopTraining):
        send()


def test_an_error_in_the_step_is_not_hidden_by_the_signal(stop):
    with pytest.raises(ZeroDivisionError), stop.deferred():  # noqa: PT012 - what is tested
        send()
        raise ZeroDivisionError


def test_a_second_signal_does_not_wait(stop, clock):
    done = []
    with pytest.raises(StopTraining) as caught, stop.deferred():  # noqa: PT012 - what is tested
        send(signal.SIGINT)
        clock.now += 1.5
        send(signal.SIGTERM)
        done.append('step')
    assert not done
    assert caught.value.at_once
    assert caught.value.exit_code == 143


def test_two_signals_in_a_row_are_one_wish(stop, clock):
    done = []
    with pytest.raises(StopTraining) as caught, stop.deferred():  # noqa: PT012 - what is tested
        send()
        clock.now += 0.5
        send()
        done.append('step')
    assert done
    assert not caught.value.at_once


def test_after_a_stop_the_save_is_not_interrupted_by_the_same_wish(stop, clock):
    with pytest.raises(StopTraining):
        send()
    done = []
    with pytest.raises(StopTraining), stop.deferred():  # noqa: PT012 - what is tested
        send()
        done.append('saved')
    assert done


def test_after_a_stop_the_save_is_interrupted_by_a_second_wish(stop, clock):
    with pytest.raises(StopTraining):
        send()
    clock.now += 1.5
    with pytest.raises(StopTraining) as caught, stop.deferred():
        send()
    assert caught.value.at_once


def test_no_handler_of_exceptions_takes_a_stop_for_an_error(stop):
    def swallow():
        try:
            send()
        except Exception:
            pytest.fail('swallowed')
    with pytest.raises(StopTraining):
        swallow()


def test_hangups_that_nohup_ignores_stay_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with GracefulStop():
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_handlers_are_restored():
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    with GracefulStop():
        assert [signal.getsignal(signum) for signum in STOP_SIGNALS] != before
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before


def test_handlers_are_restored_after_a_stop():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StopTraining), GracefulStop():
        send()
    assert signal.getsignal(signal.SIGTERM) == before
