"""The network's thread: one call at a time, a bounded queue, and calls that nobody waits for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tools.serving.service import AbandonedError, ClosedError, Jobs, QueueFullError


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
def jobs():
    made = Jobs(queue_size=1)
    yield made
    assert made.close(60)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_a_call_returns_or_raises_what_its_function_does(jobs):
    assert jobs.run(lambda: threading.current_thread().name, never) == 'network'
    with pytest.raises(ZeroDivisionError):
        jobs.run(lambda: 1 / 0, never)
    assert jobs.run(lambda: 'still there', never) == 'still there'


def test_one_waits_and_a_third_is_refused_at_once(jobs, threads):
    gate, waiter = Gate(), Waiter()
    first = threads.submit(jobs.run, gate, never)
    assert gate.entered.wait(60)
    second = threads.submit(jobs.run, lambda: 'second', waiter)
    assert waiter.asked.wait(60)
    assert jobs.waiting == 1
    with pytest.raises(QueueFullError) as refusal:
        jobs.run(never, never)
    assert refusal.value.seconds > 0
    gate.opened.set()
    assert (first.result(60), second.result(60)) == ('done', 'second')
    assert jobs.run(lambda: 'room again', never) == 'room again'


def test_a_call_that_nobody_waits_for_is_dropped(jobs, threads):
    gate, waiter, called = Gate(), Waiter(), []
    first = threads.submit(jobs.run, gate, never)
    assert gate.entered.wait(60)
    waiter.left = True
    second = threads.submit(jobs.run, lambda: called.append(1), waiter)
    with pytest.raises(AbandonedError):
        second.result(60)
    assert jobs.waiting == 0
    gate.opened.set()
    first.result(60)
    jobs.run(never, never)
    assert called == []


def test_closing_drops_what_waits_and_says_whether_the_thread_has_ended(threads):
    jobs = Jobs(queue_size=1)
    gate, waiter = Gate(), Waiter()
    first = threads.submit(jobs.run, gate, never)
    assert gate.entered.wait(60)
    second = threads.submit(jobs.run, never, waiter)
    assert waiter.asked.wait(60)
    assert not jobs.close(0)
    with pytest.raises(ClosedError):
        second.result(60)
    with pytest.raises(ClosedError):
        jobs.run(never, never)
    gate.opened.set()
    assert first.result(60) == 'done'
    assert jobs.close(60)


def test_without_a_queue_one_after_the_other_is_never_refused():
    jobs = Jobs(queue_size=0)
    assert [jobs.run(lambda: 1, never) for _ in range(200)] == [1] * 200
    assert jobs.close(60)
