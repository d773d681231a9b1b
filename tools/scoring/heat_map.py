"""The picture of a grid: Hmean by threshold and area, a panel for each box side."""

from typing import Dict, List, Sequence

import numpy as np

from inference.results import replacing
from inference.thresholds import Thresholds
from tools.scoring.grid import Grid, Row, best_of

_COLUMNS = 3
# Inches a cell and around a panel.
_CELL = (0.62, 0.36)
_MARGIN = (1.4, 1.5)


def draw_heat_map(grid: Grid, rows: Sequence[Row], path: str) -> None:
    """Draws every Hmean; the best cell has a frame, the default's a dashed one.

    Args:
        grid: the values of the axes.
        rows: a score for each of its combinations.
        path: PNG file to write.

    Raises:
        ResultError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    hmeans = {row.thresholds: row.score.hmean for row in rows}
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


def _draw_panel(axes, grid: Grid, hmeans: Dict[Thresholds, float], side: int) -> None:
    values = np.array([[hmeans[Thresholds(score, area, side)] for area in grid.min_area_threshs]
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
