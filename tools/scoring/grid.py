"""Combinations of thresholds, all scored from one run of the network: maps, scores, picture.

Score maps are kept in a byte a score, exact for the thresholds that are compared with: how many of
these a score is above. Whatever compares a restored score with one of them finds the same.
"""

import contextlib
import multiprocessing
import os
import signal
import zlib
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from evaluation.protocol import GroundTruth
from evaluation.report import Score
from inference.detector import Detector
from inference.folder import FolderImage, Read, run_network
from inference.postprocess import Geometry, Thresholds, find_regions
from tools.scoring.validation import refuse_unreadable, score_boxes
from utils.errors import PSENetError
from utils.files import replacing

MAX_THRESHOLDS = np.iinfo(np.uint8).max


class Levels:
    """Turns score maps into levels and back, for thresholds that are known beforehand."""

    def __init__(self, thresholds: Sequence[float]):
        """Prepares both ways.

        Args:
            thresholds: 0 to below 1; post-processing compares them as float32, and so it is here.

        Raises:
            PSENetError: there are more than a byte can tell apart.
        """
        self._thresholds = np.unique(np.array(thresholds, np.float32))
        if len(self._thresholds) > MAX_THRESHOLDS:
            raise PSENetError(f'{len(self._thresholds)} thresholds for scores are more than the '
                              f'{MAX_THRESHOLDS} allowed; try fewer at a time')
        # Of each level the lowest score: right above the last threshold below it.
        self._scores = np.append(np.float32(0), np.nextafter(self._thresholds, np.float32(1)))

    def of(self, score_maps: np.ndarray) -> np.ndarray:
        """The levels of score maps.

        Args:
            score_maps: float32, any shape, 0..1.

        Returns:
            uint8 of that shape: the number of thresholds below each score.
        """
        levels = np.zeros(score_maps.shape, np.uint8)
        for threshold in self._thresholds:
            levels += score_maps > threshold
        return levels

    def restore(self, levels: np.ndarray) -> np.ndarray:
        """Score maps, float32, that lie on the same side of each threshold as the original ones."""
        return self._scores[levels]


# Maps are nearly empty: a higher level takes longer and gains little.
_COMPRESSION = 1


class StoredMaps(NamedTuple):
    """The levels of one image's score maps in a file, and what post-processing needs besides.

    path: zlib-compressed uint8 of ``shape``, (h, w, 6), smallest kernel first; where the regions'
        scores play a part, the largest kernel follows as it is, float32 (h, w).
    geometry: sizes of the image.
    """

    path: str
    shape: Tuple[int, int, int]
    geometry: Geometry

    def read(self, levels: Levels) -> np.ndarray:
        """The score maps, float32 (h, w, 6), exact for the thresholds of ``levels``."""
        with open(self.path, 'rb') as file:
            stored = zlib.decompress(file.read())
        size = int(np.prod(self.shape))
        restored = levels.restore(np.frombuffer(stored, np.uint8, size).reshape(self.shape))
        if len(stored) > size:
            restored[..., -1] = np.frombuffer(stored[size:], np.float32).reshape(self.shape[:2])
        return restored


def store_maps(detector: Detector, images: Dict[str, str], levels: Levels, folder: str,
               read: Read, with_scores: bool = False) -> Dict[str, StoredMaps]:
    """Runs the network on every image and keeps what it answers.

    Args:
        detector: has the network; its thresholds play no part.
        images: id of the sample -> path.
        levels: what the answers have to be exact for.
        folder: an existing, empty folder for the files.
        read: reads an image file, as ``image_reader`` makes it.
        with_scores: keep the largest kernel as it is, for the scores of regions.

    Returns:
        The maps by id of the sample.

    Raises:
        PSENetError: an image cannot be read, a file not be written, or the detector cannot go on.
    """
    stored: Dict[str, StoredMaps] = {}

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        path = os.path.join(folder, image.stem)
        text = np.ascontiguousarray(score_maps[..., -1]).tobytes() if with_scores else b''
        _write(path, zlib.compress(levels.of(score_maps).tobytes() + text, _COMPRESSION))
        stored[image.stem] = StoredMaps(path, score_maps.shape, image.prepared.geometry)

    run_network(detector, images, keep, read)
    return stored


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, 'wb') as file:
            file.write(data)
    except OSError as error:
        raise PSENetError(f'score maps cannot be kept in {path} ({error.strerror}); make room '
                          'there, or name another folder in TMPDIR') from None


class Grid(NamedTuple):
    """The values to combine, each ascending and without repetition."""

    seg_map_threshs: Sequence[float]
    min_area_threshs: Sequence[int]
    min_box_sides: Sequence[int]
    min_scores: Sequence[float] = (0.0,)
    min_region_areas: Sequence[int] = (0,)

    def filters(self) -> List[Tuple[int, float, int]]:
        """Sides, scores and areas that regions may need, combined."""
        return list(product(*self[2:]))

    def units(self) -> List[Tuple[float, int]]:
        """What ``score_unit`` is to be called for."""
        return list(product(self.seg_map_threshs, self.min_area_threshs))


class Row(NamedTuple):
    """One combination and its score; ``short_side`` is that of the images, 0 for their own."""

    thresholds: Thresholds
    score: Score
    short_side: int = 0


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
    """Scores the combinations of two thresholds with everything that drops regions.

    Args:
        task: what to score, on what.
        seg_map_thresh: a pixel belongs to a kernel where its score is above this.
        min_area_thresh: seeds with fewer score-map pixels are dropped.

    Returns:
        A row for each of ``task.grid.filters()``.
    """
    levels = Levels(task.grid.seg_map_threshs)
    thresholds = Thresholds(seg_map_thresh, min_area_thresh)
    found = {image_id: find_regions(maps.read(levels), maps.geometry, thresholds)
             for image_id, maps in task.maps.items()}
    sides = {image_id: np.linalg.norm(regions.quads[:, [1, 0]] - regions.quads[:, [0, 3]],
                                      axis=2).min(axis=1, initial=np.inf)
             for image_id, regions in found.items()}
    rows = []
    for side, score, area in task.grid.filters():
        left = {image_id: regions.quads[(sides[image_id] >= side) & (regions.scores >= score)
                                        & (regions.areas >= area)]
                for image_id, regions in found.items()}
        rows.append(Row(Thresholds(seg_map_thresh, min_area_thresh, side, score, area),
                        score_boxes(task.ground_truth, left)))
    return rows


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


_COLUMNS = 3
# Inches a cell and around a panel.
_CELL = (0.62, 0.36)
_MARGIN = (1.4, 1.5)


def draw_heat_map(grid: Grid, rows: Sequence[Row], path: str) -> None:
    """Draws the Hmean of every pair of thresholds, a panel a side, by the best scores and areas.

    The best cell has a frame, the default's a dashed one.

    Args:
        grid: the values of the axes.
        rows: a score for each of its combinations.
        path: PNG file to write.

    Raises:
        ResultError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    hmeans: Dict[Tuple[float, int, int], float] = {}
    for row in rows:
        hmeans[row.thresholds[:3]] = max(hmeans.get(row.thresholds[:3], 0), row.score.hmean)
    best = best_of(rows)
    columns = min(_COLUMNS, len(grid.min_box_sides))
    lines = -(-len(grid.min_box_sides) // columns)
    size = (columns * (len(grid.min_area_threshs) * _CELL[0] + _MARGIN[0]),
            lines * (len(grid.seg_map_threshs) * _CELL[1] + _MARGIN[1]))
    figure = Figure(figsize=np.maximum(size, 5), dpi=110)
    FigureCanvasAgg(figure)
    for number, side in enumerate(grid.min_box_sides, start=1):
        _draw_panel(figure.add_subplot(lines, columns, number), grid, hmeans, side)
        _frame(figure.axes[-1], grid, Thresholds()._replace(min_box_side=side), '--', side == 0)
        _frame(figure.axes[-1], grid, best.thresholds, '-', side == best.thresholds.min_box_side)
    figure.suptitle(f'Hmean in %; framed: the best, {best.score.hmean:.2%}; dashed: the defaults',
                    fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png')


def _draw_panel(axes, grid: Grid, hmeans: Dict[Tuple[float, int, int], float], side: int) -> None:
    values = np.array([[hmeans[score, area, side] for area in grid.min_area_threshs]
                       for score in grid.seg_map_threshs])
    low, high = min(hmeans.values()), max(hmeans.values())
    axes.imshow(values, cmap='viridis', vmin=low, vmax=max(high, low + 1e-6), aspect='auto')
    for (y, x), value in np.ndenumerate(values):
        dark = value < (low + high) / 2
        axes.text(x, y, f'{100 * value:.1f}', ha='center', va='center', fontsize=8,
                  color='white' if dark else 'black')
    _label(axes, grid)
    axes.set_title(f'min_box_side {side}', fontsize=10)


def _label(axes, grid: Grid) -> None:
    for axis, name, values in ((axes.xaxis, 'min_area_thresh', grid.min_area_threshs),
                               (axes.yaxis, 'seg_map_thresh', grid.seg_map_threshs)):
        axis.set_ticks(range(len(values)))
        axis.set_ticklabels([f'{value:g}' for value in values])
        axis.set_label_text(name)


def _frame(axes, grid: Grid, thresholds: Thresholds, style: str, wanted: bool) -> None:
    from matplotlib.patches import Rectangle

    scores: List[float] = list(grid.seg_map_threshs)
    areas: List[int] = list(grid.min_area_threshs)
    if not wanted or thresholds[0] not in scores or thresholds[1] not in areas:
        return
    corner = (areas.index(thresholds[1]) - 0.5, scores.index(thresholds[0]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor='red', linewidth=2,
                             linestyle=style, clip_on=False))
