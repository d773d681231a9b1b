"""Scores the checkpoints of a training as they come, and keeps the best of them."""

import os
import time
from typing import List, NamedTuple, Optional, Set

from evaluation.scores import Score
from inference.config import DetectConfig
from inference.detector import open_detector
from inference.folder import image_reader
from inference.networks import Platform
from tools.scoring.gallery import Gallery
from tools.scoring.history import draw_history
from tools.scoring.score_log import Scored, ScoreLog, Settings, best_of
from tools.scoring.validation import Validation, score_detector
from training.checkpoints import fingerprint
from training.run_folder import VALIDATION_FOLDER, CheckpointError, find_checkpoints, step_of
from training.summaries import SummaryWriter
from utils.errors import PSENetError
from utils.utils_tool import logger

TABLE, PICTURE = 'scores.csv', 'scores.png'


class Places(NamedTuple):
    """Where checkpoints come from, and the folder for the best ``keep`` of them."""

    training: str
    best: str
    keep: int


class Follower:
    """Follows one training; what was scored before, by whatever process, is not scored again."""

    def __init__(self, places: Places, config: DetectConfig, validation: Validation,
                 settings: Settings):
        """Reads what was done before.

        Args:
            places: where everything is.
            config: thresholds, limits of size, GPUs.
            validation: images and ground truth.
            settings: what the scores depend on, for the table.

        Raises:
            PSENetError: the table is damaged or about other settings.
        """
        self._places = places
        self._config = config
        self._validation = validation
        self._log = ScoreLog(os.path.join(places.best, TABLE), settings)
        self._gallery = Gallery(places.best)
        self._curves: Optional[SummaryWriter] = None
        self._failed: Set[str] = set()

    def once(self) -> int:
        """Scores all that can be scored now.

        Returns:
            How many checkpoints could not be scored; each was named in an error.

        Raises:
            PSENetError: there is no checkpoint and never was one, or the scoring cannot go on.
        """
        self._score_all()
        if not self._log.rows and not self._failed:
            raise PSENetError(f'no checkpoint in the folder --checkpoint_path='
                              f'{self._places.training}; name the folder that training writes to')
        return len(self._failed)

    def follow(self, interval: float) -> None:
        """Goes on for good, looking for new checkpoints every ``interval`` seconds."""
        while True:
            self._score_all()
            time.sleep(interval)

    def close(self) -> None:
        """Closes the event file."""
        if self._curves:
            self._curves.close()

    def _score_all(self) -> None:
        """What is new is fetched before and during each scoring: training may remove it soon."""
        while True:
            self._fetch_new()
            waiting = self._gallery.waiting()
            if not waiting:
                return
            self._take(waiting[0])

    def _fetch_new(self) -> None:
        waiting = {fingerprint(prefix) for prefix in self._gallery.waiting()}
        for prefix in find_checkpoints(self._places.training):
            try:
                mark = fingerprint(prefix)
            except CheckpointError:  # gone already
                continue
            if not (self._log.knows(mark) or mark in self._failed or mark in waiting):
                self._gallery.fetch(prefix)

    def _take(self, prefix: str) -> None:
        """Scores what waits first, and finds it a place or none."""
        mark = fingerprint(prefix)
        if self._log.knows(mark):
            self._gallery.dismiss(prefix)
            return
        try:
            score = self._score(prefix)
        except CheckpointError as error:
            logger.error('%s; it is not scored', error)
            self._failed.add(mark)
            self._gallery.dismiss(prefix)
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
        """The table comes last: whatever ends this before, the checkpoint is scored again."""
        rows = [done for done in self._log.rows if self._gallery.holds(done)]
        kept = best_of([*rows, row], self._places.keep)
        if row in kept:
            self._gallery.admit(prefix)
        else:
            self._gallery.dismiss(prefix)
        held: List[Scored] = [one for one in kept if self._gallery.holds(one)]
        self._gallery.arrange(held, rows)
        self._log.add(row)
        draw_history(self._log.rows, held, os.path.join(self._places.best, PICTURE))
        logger.info('kept in %s: %s', self._places.best, ', '.join(
            f'{one.checkpoint} ({one.hmean:.4f})' for one in held))
