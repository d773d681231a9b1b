"""Score maps of the last images, within limits of bytes and number; the longest unused go first."""

import secrets
import threading
from collections import OrderedDict
from typing import Optional

from tools.serving.analysis import Analysis


class Store:
    """Keeps analyses under ids that nobody can guess; threads may share it."""

    def __init__(self, max_bytes: int, max_count: int):
        """Takes the limits; the latest analysis is kept even where it alone exceeds them."""
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._kept: OrderedDict[str, Analysis] = OrderedDict()
        self._lock = threading.Lock()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, analysis: Analysis) -> str:
        """Keeps an analysis; returns its id."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = analysis
            self.num_bytes += analysis.score_maps.nbytes
            while len(self._kept) > 1 and (
                    self.num_bytes > self._max_bytes or len(self._kept) > self._max_count):
                _, dropped = self._kept.popitem(last=False)
                self.num_bytes -= dropped.score_maps.nbytes
        return key

    def get(self, key: str) -> Optional[Analysis]:
        """The analysis of an id, which counts as used; None where there is none any more."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)
