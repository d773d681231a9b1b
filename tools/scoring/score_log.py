"""The table of checkpoints and their scores: a CSV file, which is also the memory of what is done.

The file appears complete or not at all. One table is about one set of settings, as scores of others
cannot be compared.
"""

import csv
import os
from typing import Dict, List, NamedTuple, Sequence

from inference.results import replacing
from utils.errors import PSENetError


class Settings(NamedTuple):
    """What a score depends on besides the checkpoint; ``images`` are counted."""

    seg_map_thresh: float
    min_area_thresh: int
    min_box_side: int
    max_side_len: int
    images: int
    ground_truth: str  # fingerprint of the archive
    apply_exif_orientation: bool = False
    tile: bool = False


class Scored(NamedTuple):
    """A checkpoint and its score; ``fingerprint`` identifies it, as its name may come again."""

    checkpoint: str
    step: int
    precision: float
    recall: float
    hmean: float
    fingerprint: str


def best_of(rows: Sequence[Scored], count: int) -> List[Scored]:
    """Those with the highest Hmean, best first; of equal ones the earlier step."""
    return sorted(rows, key=lambda row: (-row.hmean, row.step))[:count]


class ScoreLog:
    """The rows of a table, in the order in which they were added."""

    def __init__(self, path: str, settings: Settings):
        """Reads the table where there is one.

        Args:
            path: CSV file.
            settings: of the scores that will be added.

        Raises:
            PSENetError: it cannot be read, or is about other settings.
        """
        self._path = path
        self._settings = settings
        self.rows = self._read() if os.path.exists(path) else []

    def knows(self, fingerprint: str) -> bool:
        """Whether the checkpoint with this fingerprint has a row."""
        return any(row.fingerprint == fingerprint for row in self.rows)

    def add(self, row: Scored) -> None:
        """Appends a row to the table.

        Raises:
            ResultError: it cannot be written.
        """
        self.rows.append(row)
        with replacing(self._path) as temporary, open(
                temporary, 'w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(Scored._fields + Settings._fields)
            writer.writerows(row + self._settings for row in self.rows)

    def _read(self) -> List[Scored]:
        try:
            with open(self._path, newline='', encoding='utf-8') as file:
                reader = csv.DictReader(file, strict=True)
                return [self._row(fields, f'{self._path}, line {reader.line_num}')
                        for fields in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise PSENetError(f'{self._path} cannot be read ({error}); mend or remove it') from None

    def _row(self, fields: Dict[str, str], place: str) -> Scored:
        try:
            row, settings = _typed(Scored, fields), _typed(Settings, fields)
        except (KeyError, TypeError, ValueError):
            raise PSENetError(f'{place} is no row of this table; mend or remove the file') from None
        for name, was, now in zip(Settings._fields, settings, self._settings):
            if was != now:
                raise PSENetError(f'{place} was scored with {name} {was}, and now it is {now}: '
                                  'such scores cannot be compared; name another --best_path')
        return row


def _typed(kind: type, fields: Dict[str, str]):
    # A table that was begun by an earlier release lacks the newest columns.
    given = {name: convert for name, convert in kind.__annotations__.items()
             if name not in kind._field_defaults or fields.get(name) is not None}
    return kind(**{name: fields[name] == 'True' if convert is bool else convert(fields[name])
                   for name, convert in given.items()})
