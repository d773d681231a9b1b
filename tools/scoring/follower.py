"""Follows a training run: scores new checkpoints, keeps the best, and reports the scores.

Scores are stored in a CSV file, which also records which checkpoints are done. It is written
atomically, and is for one set of settings, as scores with different settings are not comparable.
"""

import contextlib
import csv
import os
import shutil
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from evaluation.report import Score
from inference.config import DetectConfig
from inference.detector import open_detector
from inference.folder import image_reader
from inference.networks import Platform
from tools.curves import new_figure, save_figure
from tools.scoring.validation import Validation, score_detector
from training.checkpoints import write_index
from training.run_folder import (
    VALIDATION_FOLDER,
    CheckpointError,
    files_of,
    find_checkpoints,
    fingerprint,
    step_of,
)
from training.summaries import SummaryWriter
from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import logger


class Settings(NamedTuple):
    """Settings that a score depends on besides the checkpoint; ``images`` is their number."""

    seg_map_thresh: float
    min_area_thresh: int
    min_box_side: int
    max_side_len: int
    images: int
    ground_truth: str  # fingerprint of the archive
    apply_exif_orientation: bool = False
    tile: bool = False
    min_score: float = 0.0
    min_region_area: int = 0
    short_side: int = 0
    long_side: int = 0
    output_shape: str = 'quad'
    polygon_tolerance: float = 4.0


class Scored(NamedTuple):
    """A checkpoint and its score; ``fingerprint`` identifies it, as names may be reused."""

    checkpoint: str
    step: int
    precision: float
    recall: float
    hmean: float
    fingerprint: str


def best_of(rows: Sequence[Scored], count: int) -> List[Scored]:
    """Returns the rows with the highest Hmean, best first; the earlier step wins a tie."""
    return sorted(rows, key=lambda row: (-row.hmean, row.step))[:count]


class ScoreLog:
    """The rows of a table in the order in which they were added."""

    def __init__(self, path: str, settings: Settings):
        """Reads the table if it exists.

        Args:
            path: CSV file.
            settings: settings of the scores that will be added.

        Raises:
            PSENetError: it cannot be read, or has other settings.
        """
        self._path = path
        self._settings = settings
        self.rows = self._read() if os.path.exists(path) else []

    def knows(self, fingerprint: str) -> bool:
        """Returns True if the checkpoint with this fingerprint has a row."""
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
            raise PSENetError(f'{self._path} cannot be read ({error}); repair or remove '
                              'it') from None

    def _row(self, fields: Dict[str, str], place: str) -> Scored:
        try:
            row, settings = _typed(Scored, fields), _typed(Settings, fields)
        except (KeyError, TypeError, ValueError):
            raise PSENetError(
                f'{place} is not a row of this table; repair or remove the file') from None
        for name, was, now in zip(Settings._fields, settings, self._settings):
            if was != now:
                raise PSENetError(f'{place} was scored with {name} {was}, but now it is {now}, so '
                                  'scores cannot be compared; choose another --best_path')
        return row


def _typed(kind: type, fields: Dict[str, str]):
    # Tables of earlier releases lack the newest columns.
    given = {name: convert for name, convert in kind.__annotations__.items()
             if name not in kind._field_defaults or fields.get(name) is not None}
    return kind(**{name: fields[name] == 'True' if convert is bool else convert(fields[name])
                   for name, convert in given.items()})


def draw_history(rows: Sequence[Scored], kept: Sequence[Scored], path: str) -> None:
    """Plots precision, recall and Hmean; circles mark the checkpoints that are kept.

    Args:
        rows: one or more rows, in any order.
        kept: the best of them, best first.
        path: PNG file to write.

    Raises:
        PSENetError: it cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot(1, 1, 1)
    ordered = sorted(rows, key=lambda row: row.step)
    for name, width in (('precision', 1.2), ('recall', 1.2), ('hmean', 2.5)):
        axes.plot([row.step for row in ordered], [getattr(row, name) for row in ordered],
                  marker='o', markersize=3, linewidth=width, label=name)
    axes.plot([row.step for row in kept], [row.hmean for row in kept], 'o', markersize=11,
              fillstyle='none', color='black', label='kept')
    axes.set(xlabel='training step', ylabel='score', ylim=(0, 1.02),
             title=f'Best: Hmean {kept[0].hmean:.4f} at step {kept[0].step}' if kept else 'Scores')
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    save_figure(figure, path)


class BestCheckpoints:
    """Directory of the best checkpoints and of those that wait to be scored."""

    def __init__(self, directory: str):
        """Sets the directory, which is created when the first checkpoint is fetched."""
        self._folder = directory
        self._waiting = os.path.join(directory, 'waiting')

    def waiting(self) -> List[str]:
        """Lists the prefixes of waiting checkpoints, lowest step first."""
        return [prefix for prefix in find_checkpoints(self._waiting) if _is_complete(prefix)]

    def fetch(self, prefix: str) -> None:
        """Links or copies a checkpoint, unless it is incomplete or being removed.

        Args:
            prefix: prefix of the checkpoint in the directory of its run.

        Raises:
            PSENetError: the disk is full, or the directory cannot be written.
        """
        target = os.path.join(self._waiting, os.path.basename(prefix))
        try:
            os.makedirs(self._waiting, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                for path in files_of(prefix):
                    _link_or_copy(path, target + path[len(prefix):])
        except OSError as error:
            self.dismiss(target)
            raise PSENetError(f'{prefix} cannot be copied to {self._waiting} ({error.strerror}); '
                              'free some space, or choose another --best_path') from None
        if not _is_complete(target):
            self.dismiss(target)

    def admit(self, prefix: str) -> None:
        """Moves a waiting checkpoint to the best ones, replacing one of the same name.

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
        """Removes a checkpoint of this directory.

        Raises:
            PSENetError: it cannot be removed.
        """
        try:
            for path in reversed(files_of(prefix)):
                os.remove(path)
        except OSError as error:
            raise PSENetError(f'{prefix} cannot be removed ({error.strerror}); remove it manually '
                              'and restart') from None

    def holds(self, row: Scored) -> bool:
        """Returns True if the checkpoint of a row is in the directory."""
        prefix = self._prefix(row)
        return _is_complete(prefix) and row.fingerprint == fingerprint(prefix)

    def arrange(self, kept: Sequence[Scored], others: Sequence[Scored]) -> None:
        """Removes all but the best checkpoints, and lists these in the index.

        Args:
            kept: the checkpoints to keep, best first; all are in the directory.
            others: checkpoints that may be removed if they are in the directory.

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
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, partial)
    os.replace(partial, target)


def _is_complete(prefix: str) -> bool:
    return len(files_of(prefix)) > 1


TABLE, CHART = 'scores.csv', 'scores.png'


class Places(NamedTuple):
    """Directory of the training run, and the directory for the best ``keep`` checkpoints."""

    training: str
    best: str
    keep: int


class Follower:
    """Follows a training run; checkpoints that have a score are not scored again."""

    def __init__(self, places: Places, config: DetectConfig, validation: Validation,
                 settings: Settings):
        """Reads the table of earlier scores.

        Args:
            places: directories.
            config: thresholds, limits of size, GPUs.
            validation: images and ground truth.
            settings: settings of the scores, for the table.

        Raises:
            PSENetError: the table is damaged or has other settings.
        """
        self._places = places
        self._config = config
        self._validation = validation
        self._log = ScoreLog(os.path.join(places.best, TABLE), settings)
        self._best = BestCheckpoints(places.best)
        self._curves: Optional[SummaryWriter] = None
        self._failed: Set[str] = set()

    def once(self) -> int:
        """Scores all checkpoints that exist now.

        Returns:
            The number of checkpoints that could not be scored; an error was logged for each.

        Raises:
            PSENetError: checkpoints and earlier scores are missing, or scoring failed.
        """
        self._score_all()
        if not self._log.rows and not self._failed:
            raise PSENetError(f'no checkpoint in --checkpoint_path={self._places.training}; give '
                              'the directory to which training writes')
        return len(self._failed)

    def follow(self, interval: float) -> None:
        """Scores new checkpoints forever, with ``interval`` seconds between searches."""
        while True:
            self._score_all()
            time.sleep(interval)

    def close(self) -> None:
        """Closes the event file."""
        if self._curves:
            self._curves.close()

    def _score_all(self) -> None:
        """Scores waiting checkpoints; new ones are fetched meanwhile, as training removes them."""
        while True:
            self._fetch_new()
            waiting = self._best.waiting()
            if not waiting:
                return
            self._take(waiting[0])

    def _fetch_new(self) -> None:
        waiting = {fingerprint(prefix) for prefix in self._best.waiting()}
        for prefix in find_checkpoints(self._places.training):
            try:
                mark = fingerprint(prefix)
            except CheckpointError:  # removed meanwhile
                continue
            if not (self._log.knows(mark) or mark in self._failed or mark in waiting):
                self._best.fetch(prefix)

    def _take(self, prefix: str) -> None:
        """Scores a waiting checkpoint, and keeps it if it is among the best."""
        mark = fingerprint(prefix)
        if self._log.knows(mark):
            self._best.dismiss(prefix)
            return
        try:
            score = self._score(prefix)
        except CheckpointError as error:
            logger.error('%s; not scored', error)
            self._failed.add(mark)
            self._best.dismiss(prefix)
            return
        row = Scored(os.path.basename(prefix), step_of(prefix), *score[:3], mark)
        logger.info('%s: Hmean %.4f (precision %.4f, recall %.4f)', row.checkpoint, row.hmean,
                    row.precision, row.recall)
        self._add_to_curves(row)
        self._place(row, prefix)

    def _score(self, prefix: str) -> Score:
        config = self._config._replace(checkpoint_path=prefix)
        with open_detector(config, Platform(config.gpu_list)) as detector:
            return score_detector(detector, self._validation, image_reader(config),
                                  self._fetch_new)

    def _add_to_curves(self, row: Scored) -> None:
        if not self._curves:
            last = max((done.step for done in self._log.rows), default=-1)
            self._curves = SummaryWriter(
                os.path.join(self._places.training, VALIDATION_FOLDER), last)
        self._curves.add_scalars(row.step, {
            'precision': row.precision, 'recall': row.recall, 'hmean': row.hmean})

    def _place(self, row: Scored, prefix: str) -> None:
        """Stores the checkpoint, then its row: if interrupted, the checkpoint is scored again."""
        rows = [done for done in self._log.rows if self._best.holds(done)]
        kept = best_of([*rows, row], self._places.keep)
        if row in kept:
            self._best.admit(prefix)
        else:
            self._best.dismiss(prefix)
        held: List[Scored] = [one for one in kept if self._best.holds(one)]
        self._best.arrange(held, rows)
        self._log.add(row)
        draw_history(self._log.rows, held, os.path.join(self._places.best, CHART))
        logger.info('kept in %s: %s', self._places.best, ', '.join(
            f'{one.checkpoint} ({one.hmean:.4f})' for one in held))
