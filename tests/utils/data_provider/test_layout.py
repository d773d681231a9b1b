"""Arrays of a batch lie side by side in one piece of memory."""

import numpy as np
import pytest

from utils.data_provider.batching import BatchLayout


@pytest.mark.parametrize('layout', [BatchLayout(1, 32), BatchLayout(3, 96), BatchLayout(14, 512)])
def test_arrays_fill_the_memory_and_begin_at_multiples_of_64(layout):
    memory = np.zeros(layout.num_bytes, np.uint8)
    arrays = layout.place(memory)
    begins = [array.ctypes.data - memory.ctypes.data for array in arrays]
    ends = [begin + array.nbytes for begin, array in zip(begins, arrays)]
    assert begins == [0, *ends[:-1]]
    assert ends[-1] == layout.num_bytes
    assert not any(begin % 64 for begin in [*begins, layout.num_bytes])


def test_a_batch_of_14_at_512_takes_less_than_13_megabytes():
    assert BatchLayout(14, 512).num_bytes == 12615680


def test_arrays_are_allocated_in_these_shapes():
    images, seg_maps, masks = BatchLayout(3, 64).allocate()
    assert (images.shape, seg_maps.shape, masks.shape) == (
        (3, 64, 64, 3), (3, 16, 16, 6), (3, 16, 16, 1))
    assert {array.dtype for array in (images, seg_maps, masks)} == {np.dtype(np.uint8)}
