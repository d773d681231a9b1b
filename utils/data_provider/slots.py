"""Memory that the consumer shares with its workers, in slots of one batch that are used again.

It is a file without a name, whose pages are all set aside before anything is written: a file system
that runs out of room (containers give /dev/shm 64 MB) says so at the start, in a sentence, and does
not end a process with SIGBUS later. Workers inherit the file's descriptor.
"""

import collections
import mmap
import os
import tempfile
import weakref

import numpy as np

from utils.errors import PSENetError
from utils.utils_tool import logger

# A file system in memory, on every Linux.
_MEMORY_FOLDER = '/dev/shm'  # nosec B108 # noqa: S108 - files there get no name


class SlotMemory:
    """A process's view of the slots.

    Args:
        descriptor: of the file; it may be closed afterwards.
        slot_bytes: size of a slot.
        num_slots: how many the file holds.
    """

    def __init__(self, descriptor: int, slot_bytes: int, num_slots: int):
        self._slot_bytes = slot_bytes
        self._mapped = mmap.mmap(descriptor, slot_bytes * num_slots)

    def __getitem__(self, slot: int) -> np.ndarray:
        """uint8 (slot_bytes,): the memory of a slot, which lives at least as long as this array."""
        return np.frombuffer(self._mapped, np.uint8, self._slot_bytes, slot * self._slot_bytes)


class LentSlots:
    """The consumer's slots: some free, some with a worker, some lent to whoever got a batch.

    Args:
        slot_bytes: size of a slot.
        num_slots: how many there are.

    Attributes:
        descriptor: of the file, for the workers, until `close_descriptor`.

    Raises:
        PSENetError: nowhere is room for so much.
    """

    def __init__(self, slot_bytes: int, num_slots: int):
        self.descriptor = reserve(slot_bytes * num_slots)
        self._memory = SlotMemory(self.descriptor, slot_bytes, num_slots)
        self._free = collections.deque(range(num_slots))

    def __bool__(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    def take(self) -> int:
        """A free slot, which is free no more; IndexError without any."""
        return self._free.popleft()

    def give_back(self, slot: int) -> None:
        """Makes a taken slot free."""
        self._free.append(slot)

    def look_into(self, slot: int) -> np.ndarray:
        """uint8 (slot_bytes,): the memory of a slot."""
        return self._memory[slot]

    def lend(self, slot: int) -> np.ndarray:
        """As look_into; a taken slot is free as soon as nothing refers to the array or to a view.

        Views of an array refer to the array that owns the memory, or, as here, to the one that got
        it from elsewhere; so this one outlives them all.
        """
        memory = self._memory[slot]
        # May run on any thread, in the middle of anything: all it does is append.
        weakref.finalize(memory, self._free.append, slot).atexit = False
        return memory

    def close_descriptor(self) -> None:
        """Once no worker will be started any more; what is mapped stays mapped."""
        os.close(self.descriptor)


def reserve(size: int) -> int:
    """Makes a nameless file that has all its room.

    Args:
        size: in bytes.

    Returns:
        Its descriptor.

    Raises:
        PSENetError: nowhere is room for so much.
    """
    failures = []
    for folder in (_MEMORY_FOLDER, tempfile.gettempdir()):
        try:
            descriptor = _reserve_in(folder, size)
        except OSError as error:
            failures.append(f'{folder}: {error.strerror or error}')
            continue
        if failures:
            logger.warning('Batches go through a file in %s, which may be slower than memory '
                           '(%s): the readers share %d MB; give a container that much with '
                           '--shm-size.', folder, failures[0], _megabytes(size))
        return descriptor
    raise PSENetError(f'The readers need {_megabytes(size)} MB to share their batches, and there '
                      f'is no room ({"; ".join(failures)}): lower --num_readers or the batch size, '
                      'or give a container more with --shm-size.')


def _reserve_in(folder: str, size: int) -> int:
    with tempfile.TemporaryFile(dir=folder) as stream:
        os.posix_fallocate(stream.fileno(), 0, size)
        return os.dup(stream.fileno())


def _megabytes(size: int) -> int:
    return -(-size // 2 ** 20)
