"""What is kept, for how long, and under which names."""

import numpy as np
import pytest

from tools.serving.service import Analysis, Store


def analysis(num_bytes):
    maps = np.zeros((num_bytes // 24, 1, 6), np.float32)
    assert maps.nbytes == num_bytes
    return Analysis(maps, (32, 32), (1.0, 1.0), (32, 32), 0.0, 0.0)


@pytest.mark.parametrize('store', [Store(720, 100), Store(10 ** 9, 3)], ids=['bytes', 'count'])
def test_the_longest_unused_goes_first(store):
    first, second, third = (store.put(analysis(240)) for _ in range(3))
    assert store.get(first) is not None
    fourth = store.put(analysis(240))
    assert store.get(second) is None
    assert all(store.get(key) for key in (first, third, fourth))
    assert (len(store), store.num_bytes) == (3, 720)


def test_a_large_one_takes_the_place_of_several():
    store = Store(720, 100)
    keys = [store.put(analysis(240)) for _ in range(3)]
    large = store.put(analysis(600))
    assert [store.get(key) for key in keys] == [None] * 3
    assert store.get(large) is not None
    assert store.num_bytes == 600


def test_the_latest_stays_even_where_it_alone_is_too_large():
    store = Store(10, 1)
    key = store.put(analysis(240))
    assert store.get(key) is not None
    assert store.put(analysis(240)) != key
    assert (store.get(key), len(store)) == (None, 1)


def test_ids_cannot_be_guessed():
    store = Store(10 ** 6, 100)
    keys = {store.put(analysis(24)) for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) >= 20
    assert store.get('') is None
