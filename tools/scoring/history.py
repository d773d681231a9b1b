"""The picture of a training's scores: precision, recall and Hmean by step."""

from typing import Sequence

from inference.results import replacing
from tools.scoring.score_log import Scored


def draw_history(rows: Sequence[Scored], kept: Sequence[Scored], path: str) -> None:
    """Draws the three curves; those that are kept have a ring around their Hmean.

    Args:
        rows: one or more, in any order.
        kept: the best of them, best first.
        path: PNG file to write.

    Raises:
        ResultError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=110)
    FigureCanvasAgg(figure)
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
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png')
