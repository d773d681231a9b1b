"""What the ranks of this machine say to each other, and what a collective makes of it.

Ranks meet at a socket that the job's number and its rank table name together, as the real ones meet
at the addresses in the table. A rank takes part in one collective after the other, and all ranks in
the same ones in the same order; whatever else they do is a fault that every one of them is told.
"""

import hashlib
import os
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

_PAUSE_SECONDS = 0.05
_REDUCTIONS = {'min': np.minimum, 'max': np.maximum, 'prod': np.multiply, 'sum': np.add}


class ExchangeError(Exception):
    """A collective did not come about; says which one, and which rank did not come."""


class Call(NamedTuple):
    """A rank's part in a collective."""

    op: str                      # HcomAllReduce and so on
    name: str                    # of the op in the graph
    label: str                   # the op and its number, for messages
    settings: Tuple              # of the op: (name, value) pairs
    shapes: Tuple                # dtype and shape of each tensor, the same on every rank
    members: Tuple[int, ...]     # the ranks that take part
    arrays: List[np.ndarray]     # empty where this rank has nothing to give

    def description(self) -> str:
        """What must be the same on every rank."""
        settings = ['%s=%s' % pair for pair in self.settings]
        return f"{self.label} ({', '.join([self.name, *settings, *self.shapes])})"


def address_of(job: str, meeting_place: str) -> str:
    """The name of the socket, in Linux's abstract namespace: it ends with the process."""
    text = f'{os.getuid()}/{job}/{meeting_place}'
    return '\0fake_npu_' + hashlib.sha256(text.encode('utf-8')).hexdigest()[:32]


def combine(op: str, settings: Dict, given: Dict[int, List[np.ndarray]], rank: int
             ) -> List[np.ndarray]:
    """What a rank gets of what the ranks gave, both as lists of arrays."""
    if op == 'HcomBroadcast':
        return given[settings['root_rank']]
    if 'src_rank' in settings:
        return given[settings['src_rank']]
    parts = [given[member][0] for member in sorted(given)]
    if op == 'HcomAllGather':
        return [np.concatenate(parts)]
    total = parts[0]
    for part in parts[1:]:
        total = _REDUCTIONS[settings['reduction']](total, part)
    if op == 'HcomReduceScatter':
        return [np.split(total, len(parts))[rank]]
    if op == 'HcomReduce' and rank != settings['root_rank']:
        return [np.zeros_like(total)]
    return [total]


def until(deadline: float, attempt: Callable):
    """Makes attempts at reaching rank 0 until one ends without an OSError, and returns its value.

    Raises:
        ExchangeError: time.monotonic() has passed the deadline.
    """
    while True:
        try:
            return attempt()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ExchangeError('time-out on the first collective: rank 0 cannot be met '
                                    f'({error})') from None
            time.sleep(_PAUSE_SECONDS)
