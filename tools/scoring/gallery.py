"""A folder of its own for the best checkpoints of a training, which removes older ones meanwhile.

A checkpoint first comes into ``waiting/`` below the folder, by a hard link where the file system
can, so that it stays whatever training removes. From there it moves up or goes. The folder's index
names the best one, so the folder itself can be given to eval.py.
"""

import contextlib
import os
import shutil
from typing import List, Sequence

from tools.scoring.score_log import Scored
from training.checkpoints import fingerprint, write_index
from training.run_folder import files_of, find_checkpoints
from utils.errors import PSENetError


class Gallery:
    """Checkpoints that wait for their score, and those that are kept."""

    def __init__(self, folder: str):
        """Touches nothing yet; ``folder`` is made when there is something to keep."""
        self._folder = folder
        self._waiting = os.path.join(folder, 'waiting')

    def waiting(self) -> List[str]:
        """Prefixes of what waits, the lowest step first."""
        return [prefix for prefix in find_checkpoints(self._waiting) if _is_whole(prefix)]

    def fetch(self, prefix: str) -> None:
        """Lets a checkpoint wait here, unless it is not whole, or is removed just now.

        Args:
            prefix: of the checkpoint in the folder of its training.

        Raises:
            PSENetError: there is no room for it, or the folder cannot be written.
        """
        target = os.path.join(self._waiting, os.path.basename(prefix))
        try:
            os.makedirs(self._waiting, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                for path in files_of(prefix):
                    _link_or_copy(path, target + path[len(prefix):])
        except OSError as error:
            self.dismiss(target)
            raise PSENetError(f'{prefix} cannot be kept in {self._waiting} ({error.strerror}); '
                              'make room, or name another --best_path') from None
        if not _is_whole(target):
            self.dismiss(target)

    def admit(self, prefix: str) -> None:
        """Moves what waits to those that are kept; one of the same name goes.

        Raises:
            PSENetError: it cannot be moved.
        """
        self.dismiss(os.path.join(self._folder, os.path.basename(prefix)))
        try:
            for path in files_of(prefix):
                os.replace(path, os.path.join(self._folder, os.path.basename(path)))
        except OSError as error:
            raise PSENetError(f'{prefix} cannot be moved to {self._folder} '
                              f'({error.strerror})') from None

    @staticmethod
    def dismiss(prefix: str) -> None:
        """Removes a checkpoint of this folder.

        Raises:
            PSENetError: it cannot be removed.
        """
        try:
            for path in reversed(files_of(prefix)):
                os.remove(path)
        except OSError as error:
            raise PSENetError(f'{prefix} cannot be removed ({error.strerror}); remove it yourself '
                              'and start again') from None

    def holds(self, row: Scored) -> bool:
        """Whether the very checkpoint of a row is kept."""
        prefix = self._prefix(row)
        return _is_whole(prefix) and row.fingerprint == fingerprint(prefix)

    def arrange(self, kept: Sequence[Scored], others: Sequence[Scored]) -> None:
        """Removes all but the kept, and makes the index name the best.

        Args:
            kept: best first; all are here.
            others: what may be removed, if it is here.

        Raises:
            PSENetError: a file cannot be removed or written.
        """
        if kept:
            write_index(self._folder, [self._prefix(row) for row in reversed(kept)])
        for row in others:
            if row not in kept and self.holds(row):
                self.dismiss(self._prefix(row))

    def _prefix(self, row: Scored) -> str:
        return os.path.join(self._folder, row.checkpoint)


def _link_or_copy(source: str, target: str) -> None:
    partial = target + '.partial'
    with contextlib.suppress(FileNotFoundError):
        os.remove(partial)
    try:
        os.link(source, partial)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, partial)
    os.replace(partial, target)


def _is_whole(prefix: str) -> bool:
    return len(files_of(prefix)) > 1
