"""The queue of the network: one call at a time, a bounded queue, and abandoned calls."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip('cachetools', reason='cachetools is not installed; run make setup-tools')

from inference.postprocess import Geometry
from tools.serving.service import (
    AbandonedError,
    Analysis,
    Queue,
    QueueFullError,
    kept_analyses,
)


def never():
    return False


class Gate:
    """A call that lasts until it is opened."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.opened.wait(60)
        return 'done'


class Waiter:
    """An ``abandoned`` that tells when it is first asked: its call waits then."""

    def __init__(self):
        self.asked = threading.Event()
        self.left = False

    def __call__(self):
        self.asked.set()
        return self.left


@pytest.fixture
def queue():
    made = Queue(size=1)
    yield made
    assert made.close(60)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_a_call_returns_or_raises_what_its_function_does(queue):
    assert queue.run(lambda: 'found', never) == 'found'
    with pytest.raises(ZeroDivisionError):
        queue.run(lambda: 1 / 0, never)
    assert queue.run(lambda: 'still there', never) == 'still there'


def test_one_waits_and_a_third_is_refused_at_once(queue, threads):
    gate, waiter = Gate(), Waiter()
    first = threads.submit(queue.run, gate, never)
    assert gate.entered.wait(60)
    second = threads.submit(queue.run, lambda: 'second', waiter)
    assert waiter.asked.wait(60)
    assert queue.waiting == 1
    with pytest.raises(QueueFullError) as refusal:
        queue.run(never, never)
    assert refusal.value.seconds > 0
    gate.opened.set()
    assert (first.result(60), second.result(60)) == ('done', 'second')
    assert queue.run(lambda: 'room again', never) == 'room again'


def test_a_call_that_nobody_waits_for_is_dropped(queue, threads):
    gate, waiter, called = Gate(), Waiter(), []
    first = threads.submit(queue.run, gate, never)
    assert gate.entered.wait(60)
    waiter.left = True
    second = threads.submit(queue.run, lambda: called.append(1), waiter)
    with pytest.raises(AbandonedError):
        second.result(60)
    assert queue.waiting == 0
    gate.opened.set()
    first.result(60)
    queue.run(never, never)
    assert called == []


def test_closing_drops_waiting_calls_and_reports_whether_the_running_one_ended(threads):
    queue = Queue(size=1)
    gate, waiter = Gate(), Waiter()
    first = threads.submit(queue.run, gate, never)
    assert gate.entered.wait(60)
    second = threads.submit(queue.run, never, waiter)
    assert waiter.asked.wait(60)
    assert not queue.close(0)
    with pytest.raises(CancelledError):
        second.result(60)
    with pytest.raises(CancelledError):
        queue.run(never, never)
    gate.opened.set()
    assert first.result(60) == 'done'
    assert queue.close(60)


def test_without_a_queue_one_after_the_other_is_never_refused():
    queue = Queue(size=0)
    assert [queue.run(lambda: 1, never) for _ in range(200)] == [1] * 200
    assert queue.close(60)


def analysis(num_bytes):
    return Analysis(np.zeros((num_bytes // 24, 1, 6), np.float32), Geometry((32, 32), (32, 32)),
                    0.0, 0.0)


@pytest.mark.parametrize('kept', [kept_analyses(720, 100), kept_analyses(10 ** 9, 3)],
                         ids=['bytes', 'count'])
def test_the_longest_unused_analysis_goes_first(kept):
    for key in 'abc':
        kept[key] = analysis(240)
    assert kept.get('a')
    kept['d'] = analysis(240)
    assert sorted(kept) == ['a', 'c', 'd']


def test_a_large_analysis_takes_the_place_of_several_and_the_latest_stays():
    kept = kept_analyses(720, 100)
    for key in 'abc':
        kept[key] = analysis(240)
    kept['d'] = analysis(600)
    assert list(kept) == ['d']
    kept['e'] = analysis(2400)
    assert list(kept) == ['e']
