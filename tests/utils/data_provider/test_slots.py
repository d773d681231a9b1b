"""Slots are shared, used again when nothing refers to them, and never larger than what is there."""

import errno
import gc
import os
import resource

import pytest

from utils.data_provider import slots
from utils.data_provider.slots import LentSlots, SlotMemory
from utils.errors import PSENetError

SIZE = 4096


def test_what_one_side_writes_the_other_reads():
    lent = LentSlots(SIZE, 3)
    other = SlotMemory(lent.descriptor, SIZE, 3)
    lent.close_descriptor()
    for slot in range(3):
        other[slot][:] = slot + 1
    assert [lent.look_into(slot).sum() for slot in range(3)] == [SIZE, 2 * SIZE, 3 * SIZE]
    assert lent.look_into(2).flags.writeable


def test_a_lent_slot_is_free_again_when_nothing_refers_to_it():
    lent = LentSlots(SIZE, 1)
    slot = lent.take()
    assert not lent
    view = lent.lend(slot).reshape(64, 64)[3:7, ::2]
    gc.collect()
    assert not lent
    part = view[1]
    del view
    assert not lent
    del part
    assert lent
    assert lent.take() == slot


def test_a_slot_that_was_given_back_is_free():
    lent = LentSlots(SIZE, 2)
    first, second = lent.take(), lent.take()
    assert {first, second} == {0, 1}
    lent.give_back(second)
    assert lent.take() == second


def test_memory_outlives_the_slots():
    lent = LentSlots(SIZE, 1)
    memory = lent.lend(lent.take())
    memory[:] = 5
    del lent
    gc.collect()
    assert (memory == 5).all()


def _shared_files():
    """What this process has open of files without a name."""
    paths = (f'/proc/self/fd/{name}' for name in os.listdir('/proc/self/fd'))
    return [os.readlink(path) for path in paths if os.path.islink(path)
            and os.readlink(path).endswith(' (deleted)')]


def test_no_file_and_no_descriptor_remain():
    before = len(_shared_files())
    lent = LentSlots(SIZE, 1)
    assert os.readlink(f'/proc/self/fd/{lent.descriptor}').endswith(' (deleted)')
    lent.close_descriptor()
    del lent
    gc.collect()
    assert len(_shared_files()) == before


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """The folder in memory, and the one for temporary files."""
    made = tmp_path / 'memory', tmp_path / 'disk'
    for folder in made:
        folder.mkdir()
    monkeypatch.setattr(slots, '_MEMORY_FOLDER', str(made[0]))
    monkeypatch.setattr(slots.tempfile, 'gettempdir', lambda: str(made[1]))
    return made


def test_a_folder_in_memory_without_room_is_passed_over_with_a_sentence(folders, monkeypatch,
                                                                       warnings):
    reserve, sizes = os.posix_fallocate, []

    def full_at_first(descriptor, offset, size):
        sizes.append(size)
        if len(sizes) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(descriptor, offset, size)
    monkeypatch.setattr(os, 'posix_fallocate', full_at_first)
    lent = LentSlots(2 ** 20 + 1, 3)
    assert lent.look_into(2).size == 2 ** 20 + 1
    assert sizes == [3 * 2 ** 20 + 3] * 2
    message, = [record.getMessage() for record in warnings.records]
    assert f'a file in {folders[1]}' in message
    assert f'{folders[0]}: No space left on device' in message
    assert 'share 4 MB' in message


def test_no_folder_in_memory_at_all(folders, warnings):
    folders[0].rmdir()
    assert LentSlots(SIZE, 1)
    assert f'{folders[0]}: No such file or directory' in warnings.text


@pytest.fixture
def small_files():
    """No file may grow beyond a megabyte: as if every file system were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 ** 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_anywhere_is_an_error_before_anything_is_written(small_files):
    with pytest.raises(PSENetError, match=r'need 3 MB to share .*: File too large; .*: File too '
                                          r'large\): lower --num_readers or .*--shm-size'):
        LentSlots(2 ** 20, 3)
