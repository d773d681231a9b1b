"""What processes use, as Linux tells it: time on the processors, and memory."""

import os
import pathlib
import time
from typing import Iterable, List

# clock_getcpuclockid(3): the clock that counts what all threads of a process compute.
_PROCESS_CLOCK = 2


def children() -> List[int]:
    """Process ids of those that this process has started."""
    return [int(path.parent.name) for path in pathlib.Path('/proc').glob('[0-9]*/stat')
            if _parent(path) == str(os.getpid())]


def _parent(stat: pathlib.Path) -> str:
    """Process id of the parent; blank where the process has ended meanwhile."""
    try:
        return stat.read_text().rsplit(')', 1)[1].split()[1]
    except OSError:
        return ''


def cpu_seconds(pids: Iterable[int]) -> float:
    """Adds up what processes have computed."""
    return sum(time.clock_gettime(~pid << 3 | _PROCESS_CLOCK) for pid in pids)


def resident_mb(pids: Iterable[int]) -> float:
    """Adds up the memory of processes in MB; what several of them share counts once.

    Files, such as libraries, are left out: what a process's share in them is depends on what other
    programs run.
    """
    kilobytes = 0
    for pid in pids:
        text = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
        sizes = dict(line.split()[:2] for line in text.splitlines()[1:])
        kilobytes += int(sizes['Pss_Anon:']) + int(sizes['Pss_Shmem:'])
    return kilobytes / 1024
