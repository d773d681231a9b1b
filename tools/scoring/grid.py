"""Scores of many combinations of thresholds from one run of the network, and their heat map.

Score maps are stored in one byte per score: the number of thresholds that the score exceeds. Every
comparison of a restored score with one of these thresholds gives the original result.
"""

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
from tools.curves import new_figure, save_figure
from tools.scoring.validation import refuse_unreadable, score_boxes
from utils.errors import PSENetError

MAX_THRESHOLDS = np.iinfo(np.uint8).max


class Levels:
    """Converts score maps to levels and back, for a fixed set of thresholds."""

    def __init__(self, thresholds: Sequence[float]):
        """Prepares the conversion.

        Args:
            thresholds: 0 to below 1; compared as float32, as in post-processing.

        Raises:
            PSENetError: there are more thresholds than a byte can distinguish.
        """
        self._thresholds = np.unique(np.array(thresholds, np.float32))
        if len(self._thresholds) > MAX_THRESHOLDS:
            raise PSENetError(f'{len(self._thresholds)} thresholds for scores are more than the '
                              f'{MAX_THRESHOLDS} allowed; try fewer at a time')
        # The lowest score of each level, just above the threshold below it.
        self._scores = np.append(np.float32(0), np.nextafter(self._thresholds, np.float32(1)))

    def of(self, score_maps: np.ndarray) -> np.ndarray:
        """Converts score maps to levels.

        Args:
            score_maps: float32, any shape, 0..1.

        Returns:
            uint8 of the same shape: the number of thresholds below each score.
        """
        levels = np.zeros(score_maps.shape, np.uint8)
        for threshold in self._thresholds:
            levels += score_maps > threshold
        return levels

    def restore(self, levels: np.ndarray) -> np.ndarray:
        """Returns float32 scores on the same side of each threshold as the original scores."""
        return self._scores[levels]


# Maps are mostly empty: higher compression takes longer and saves little.
_COMPRESSION = 1


class StoredMaps(NamedTuple):
    """Score maps of an image in a file, and the image's geometry.

    path: zlib-compressed uint8 levels of ``shape``, (h, w, 6), smallest kernel first; if the scores
        of regions are needed, followed by the largest kernel as float32 (h, w).
    geometry: sizes of the image.
    """

    path: str
    shape: Tuple[int, int, int]
    geometry: Geometry

    def read(self, levels: Levels) -> np.ndarray:
        """Reads the score maps, float32 (h, w, 6), exact for the thresholds of ``levels``."""
        with open(self.path, 'rb') as file:
            stored = zlib.decompress(file.read())
        size = int(np.prod(self.shape))
        restored = levels.restore(np.frombuffer(stored, np.uint8, size).reshape(self.shape))
        if len(stored) > size:
            restored[..., -1] = np.frombuffer(stored[size:], np.float32).reshape(self.shape[:2])
        return restored


def store_maps(detector: Detector, images: Dict[str, str], levels: Levels, directory: str,
               read: Read, with_scores: bool = False) -> Dict[str, StoredMaps]:
    """Runs the network on every image and stores the score maps.

    Args:
        detector: detector with the network; its thresholds are not used.
        images: sample id -> path.
        levels: thresholds for which the maps must be exact.
        directory: an existing, empty directory for the files.
        read: reads an image file; see ``image_reader``.
        with_scores: also store the largest kernel as float32, for the scores of regions.

    Returns:
        Sample id -> maps.

    Raises:
        PSENetError: an image cannot be read, a file cannot be written, or the detector failed.
    """
    stored: Dict[str, StoredMaps] = {}

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        path = os.path.join(directory, image.stem)
        text = np.ascontiguousarray(score_maps[..., -1]).tobytes() if with_scores else b''
        try:
            with open(path, 'wb') as file:
                file.write(zlib.compress(levels.of(score_maps).tobytes() + text, _COMPRESSION))
        except OSError as error:
            raise PSENetError(f'score maps cannot be written to {path} ({error.strerror}); free '
                              'some space, or set TMPDIR to another directory') from None
        stored[image.stem] = StoredMaps(path, score_maps.shape, image.prepared.geometry)

    run_network(detector, images, keep, read)
    return stored


class Grid(NamedTuple):
    """The values to combine, each ascending and without duplicates."""

    seg_map_threshs: Sequence[float]
    min_area_threshs: Sequence[int]
    min_box_sides: Sequence[int]
    min_scores: Sequence[float] = (0.0,)
    min_region_areas: Sequence[int] = (0,)

    def filters(self) -> List[Tuple[int, float, int]]:
        """Lists the combinations of minimum side, score and area of regions."""
        return list(product(*self[2:]))

    def units(self) -> List[Tuple[float, int]]:
        """Lists the arguments of ``score_unit``."""
        return list(product(self.seg_map_threshs, self.min_area_threshs))


class Row(NamedTuple):
    """A combination and its score; ``short_side`` is the test size, 0 for the images' own."""

    thresholds: Thresholds
    score: Score
    short_side: int = 0


class Task(NamedTuple):
    """Input of all units."""

    grid: Grid
    maps: Dict[str, StoredMaps]
    ground_truth: Dict[str, GroundTruth]


def score_grid(task: Task, workers: int) -> List[Row]:
    """Scores every combination.

    Args:
        task: combinations, maps and ground truth.
        workers: number of processes; 1 uses the caller's process.

    Returns:
        One row per combination, in the order of the grid.

    Raises:
        PSENetError: a process was killed.
    """
    units = task.grid.units()
    found = (score_unit(task, *unit) for unit in units) if workers == 1 else _in_processes(
        task, units, min(workers, len(units)))
    return [row for rows in tqdm(found, desc='scoring', unit='cell', total=len(units))
            for row in rows]


def best_of(rows: Sequence[Row]) -> Row:
    """Returns the row with the highest Hmean; the first one wins a tie."""
    return max(rows, key=lambda row: row.score.hmean)


def score_unit(task: Task, seg_map_thresh: float, min_area_thresh: int) -> List[Row]:
    """Scores the combinations of two thresholds with all filters of regions.

    Args:
        task: filters, maps and ground truth.
        seg_map_thresh: pixels with a higher score belong to a kernel.
        min_area_thresh: seeds with fewer score-map pixels are dropped.

    Returns:
        One row for each of ``task.grid.filters()``.
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
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _Worker:
    """State of a pool process, which receives the task once instead of with every unit."""

    task: Task

    @classmethod
    def start(cls, task: Task) -> None:
        cls.task = task

    @classmethod
    def score(cls, unit: Tuple[float, int]) -> List[Row]:
        return score_unit(cls.task, *unit)


def _in_processes(task: Task, units: List[Tuple[float, int]], workers: int) -> Iterator[List[Row]]:
    # Not forked, as this process has threads of TensorFlow.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _Worker.start,
                               (task,))
    futures: List[Future] = []
    # Ctrl-C reaches all processes, and only this one handles it; the others inherit SIG_IGN.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        futures += [pool.submit(_Worker.score, unit) for unit in units]
    finally:
        signal.signal(signal.SIGINT, previous)
    try:
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise PSENetError('a scoring process was killed, perhaps because memory ran out; try again '
                          'with fewer --workers') from None
    finally:
        for future in futures:
            future.cancel()
        pool.shutdown()


_COLUMNS = 3
# Size of a cell and margin of a panel, in inches.
_CELL = (0.62, 0.36)
_MARGIN = (1.4, 1.5)


def draw_heat_map(grid: Grid, rows: Sequence[Row], path: str) -> None:
    """Draws the best Hmean of every pair of thresholds, in one panel per minimum side.

    The best cell has a solid frame, the default one a dashed frame.

    Args:
        grid: the values of the axes.
        rows: a score for each combination.
        path: PNG file to write.

    Raises:
        PSENetError: it cannot be written.
    """
    hmeans: Dict[Tuple[float, int, int], float] = {}
    for row in rows:
        hmeans[row.thresholds[:3]] = max(hmeans.get(row.thresholds[:3], 0), row.score.hmean)
    best = best_of(rows)
    columns = min(_COLUMNS, len(grid.min_box_sides))
    lines = -(-len(grid.min_box_sides) // columns)
    size = (columns * (len(grid.min_area_threshs) * _CELL[0] + _MARGIN[0]),
            lines * (len(grid.seg_map_threshs) * _CELL[1] + _MARGIN[1]))
    figure = new_figure(*np.maximum(size, 5))
    for number, side in enumerate(grid.min_box_sides, start=1):
        _draw_panel(figure.add_subplot(lines, columns, number), grid, hmeans, side)
        _frame(figure.axes[-1], grid, Thresholds()._replace(min_box_side=side), '--', side == 0)
        _frame(figure.axes[-1], grid, best.thresholds, '-', side == best.thresholds.min_box_side)
    figure.suptitle(f'Hmean in %; framed: the best, {best.score.hmean:.2%}; dashed: the defaults',
                    fontsize=11)
    save_figure(figure, path)


def _draw_panel(axes, grid: Grid, hmeans: Dict[Tuple[float, int, int], float], side: int) -> None:
    values = np.array([[hmeans[score, area, side] for area in grid.min_area_threshs]
                       for score in grid.seg_map_threshs])
    low, high = min(hmeans.values()), max(hmeans.values())
    axes.imshow(values, cmap='viridis', vmin=low, vmax=max(high, low + 1e-6), aspect='auto')
    for (y, x), value in np.ndenumerate(values):
        dark = value < (low + high) / 2
        axes.text(x, y, f'{100 * value:.1f}', ha='center', va='center', fontsize=8,
                  color='white' if dark else 'black')
    axes.set_title(f'min_box_side {side}', fontsize=10)
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
