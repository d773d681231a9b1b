"""Scores of every combination of thresholds, each found as ``eval.sh`` would find it.

A unit of work is one threshold for scores with one for areas: the expansion depends on both. It is
done for all images in one process; processes share nothing but the files of the maps.
"""

import contextlib
import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from evaluation.protocol import GroundTruth
from evaluation.scores import Score
from inference.postprocess import detect, to_original
from inference.thresholds import Thresholds
from tools.scoring.levels import Levels
from tools.scoring.stored_maps import StoredMaps
from tools.scoring.validation import score_boxes
from utils.errors import PSENetError


class Grid(NamedTuple):
    """The values to combine, each ascending and without repetition."""

    seg_map_threshs: Sequence[float]
    min_area_threshs: Sequence[int]
    min_box_sides: Sequence[int]

    def units(self) -> List[Tuple[float, int]]:
        """What ``score_unit`` is to be called for."""
        return list(product(self.seg_map_threshs, self.min_area_threshs))


class Row(NamedTuple):
    """One combination and its score."""

    thresholds: Thresholds
    score: Score


class Task(NamedTuple):
    """What all units work on."""

    grid: Grid
    maps: Dict[str, StoredMaps]
    ground_truth: Dict[str, GroundTruth]


def score_grid(task: Task, workers: int) -> List[Row]:
    """Scores every combination.

    Args:
        task: combinations, maps and ground truth.
        workers: processes to do it; with one, the caller's process does it.

    Returns:
        A row a combination, in the order of the grid.

    Raises:
        PSENetError: a process was ended from outside.
    """
    units = task.grid.units()
    found = (score_unit(task, *unit) for unit in units) if workers == 1 else _in_processes(
        task, units, min(workers, len(units)))
    return [row for rows in tqdm(found, desc='scoring', unit='cell', total=len(units))
            for row in rows]


def best_of(rows: Sequence[Row]) -> Row:
    """The row with the highest Hmean; of equal ones the first."""
    return max(rows, key=lambda row: row.score.hmean)


def score_unit(task: Task, seg_map_thresh: float, min_area_thresh: int) -> List[Row]:
    """Scores the combinations of two thresholds with every side.

    Args:
        task: what to score, on what.
        seg_map_thresh: a pixel belongs to a kernel where its score is above this.
        min_area_thresh: seeds with fewer score-map pixels are dropped.

    Returns:
        A row for each of ``task.grid.min_box_sides``.
    """
    levels = Levels(task.grid.seg_map_threshs)
    quads = {image_id: detect(maps.read(levels), maps.input_size, seg_map_thresh, min_area_thresh)
             for image_id, maps in task.maps.items()}
    return [Row(Thresholds(seg_map_thresh, min_area_thresh, side),
                score_boxes(task.ground_truth, _boxes(task, quads, side)))
            for side in task.grid.min_box_sides]


def _boxes(task: Task, quads: Dict[str, np.ndarray], side: int) -> Dict[str, np.ndarray]:
    return {image_id: to_original(quads[image_id], maps.ratios, maps.image_size, side)
            for image_id, maps in task.maps.items()}


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class _Worker:
    """What a process of the pool holds; it gets the task once, not with every unit."""

    task: Task

    @classmethod
    def start(cls, task: Task) -> None:
        cls.task = task

    @classmethod
    def score(cls, unit: Tuple[float, int]) -> List[Row]:
        return score_unit(cls.task, *unit)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes that are started here inherit it: Ctrl-C, which reaches all, is the parent's."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _in_processes(task: Task, units: List[Tuple[float, int]], workers: int) -> Iterator[List[Row]]:
    # The parent holds TensorFlow's threads, which a forked process would lack.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _Worker.start,
                               (task,))
    futures: List[Future] = []
    try:
        with _interrupts_ignored():
            futures += [pool.submit(_Worker.score, unit) for unit in units]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise PSENetError('a process that scores was ended from outside, perhaps for want of '
                          'memory; try again with fewer --workers') from None
    finally:
        for future in futures:
            future.cancel()
        pool.shutdown()
