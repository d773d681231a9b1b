"""Work ahead of a loop and behind it: order, bounds, errors, and threads that end."""

import threading
from contextlib import closing

import pytest

from inference.folder import WriteBehind, prefetch


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


class OddError(Exception):
    """Raised by the functions of these tests."""


def test_what_is_done_ahead_comes_in_order():
    assert list(prefetch(lambda item: item * 2, range(9))) == list(range(0, 18, 2))
    assert list(prefetch(str, [])) == []


def test_work_ahead_is_done_in_another_thread_and_bounded():
    done, all_ahead = [], threading.Event()

    def work(item):
        done.append((item, threading.current_thread()))
        if len(done) == 3:
            all_ahead.set()
        return item

    with closing(prefetch(work, iter(range(100)), depth=2)) as made:
        assert next(made) == 0
        assert all_ahead.wait(60)
    # The one that was taken and the two ahead; closing let no other begin.
    assert [item for item, _ in done] == [0, 1, 2]
    assert threading.current_thread() not in {thread for _, thread in done}


def test_an_error_ahead_comes_in_its_place_and_ends_it():
    def work(item):
        if item == 3:
            raise OddError
        return item

    made = prefetch(work, range(9))
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OddError):
        next(made)


def test_work_behind_is_done_in_order_and_to_the_end():
    done = []
    with WriteBehind(lambda *item: done.append(item)) as behind:
        for number in range(9):
            behind.put(number, str(number))
    assert done == [(number, str(number)) for number in range(9)]


def test_work_behind_is_done_when_the_loop_fails():
    done = []

    def loop():
        with WriteBehind(done.append) as behind:
            behind.put(1)
            behind.put(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert done == [1, 2]


def test_put_waits_for_what_lies_too_far_behind():
    free, done = threading.Event(), []

    def work(item):
        assert free.wait(60)
        done.append(item)

    with WriteBehind(work, depth=2) as behind:
        behind.put(1)
        behind.put(2)
        assert done == []
        free.set()
        behind.put(3)
        assert done[:1] == [1]


def test_an_error_behind_reaches_the_loop_and_nothing_is_done_after_it():
    done = []

    def work(item):
        if item == 1:
            raise OddError
        done.append(item)

    def loop():
        with WriteBehind(work, depth=2) as behind:
            for number in range(9):
                behind.put(number)

    with pytest.raises(OddError):
        loop()
    assert done == [0]
