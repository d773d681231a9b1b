"""Score maps of images that are too large for the network, from overlapping tiles.

The maps are put together before the expansion, so no word is cut where two tiles meet. Each tile
goes on for MARGIN pixels beyond the part of the maps that is taken from it. That is further than
the network sees, so the result is the same, up to rounding, as if it had been run on the whole.
"""

from typing import Callable, Iterator, NamedTuple

import numpy as np

from utils.utils_tool import cfg

# Half of the receptive field: 241 pixels of ResNet-50, 32 of the nearest and bilinear upsampling of
# P5, and 16 + 8 + 4 + 4 of the 3x3 convolutions behind them. A multiple of 32, as tiles must begin
# where the network's cells do.
MARGIN = 320
MIN_TILE_SIDE = 2 * MARGIN + cfg.SIDE_MULTIPLE


class Span(NamedTuple):
    """A tile along one axis, in pixels; the ends are exclusive."""

    start: int
    stop: int
    kept_start: int     # of what is taken from its score maps
    kept_stop: int


def spans(length: int, side: int) -> Iterator[Span]:
    """Divides an axis into tiles that overlap by at least twice MARGIN.

    Args:
        length: pixels of the axis, a multiple of 32.
        side: pixels of a tile, a multiple of 32, at least MIN_TILE_SIDE.

    Yields:
        The tiles, in order; what is kept of them covers the axis once.
    """
    kept_start = start = 0
    while start + side < length:
        yield Span(start, start + side, kept_start, start + side - MARGIN)
        kept_start = start + side - MARGIN
        start = min(kept_start - MARGIN, length - side)
    yield Span(start, length, kept_start, length)


def tiled_score_maps(score_maps: Callable[[np.ndarray], np.ndarray], image_rgb: np.ndarray,
                     side: int) -> np.ndarray:
    """Runs a network tile by tile.

    Args:
        score_maps: runs it on one image, as ``ScoreNetwork.score_maps``.
        image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.
        side: of a tile, as for ``spans``; a shorter image is one tile along that axis.

    Returns:
        float32 (H/4, W/4, 6), 0..1, smallest kernel first.
    """
    height, width = image_rgb.shape[:2]
    whole = np.empty((height // cfg.STRIDE, width // cfg.STRIDE, cfg.NUM_KERNELS), np.float32)
    for row in spans(height, side):
        for column in spans(width, side):
            tile = score_maps(image_rgb[row.start:row.stop, column.start:column.stop])
            whole[_cells(row.kept_start, row.kept_stop),
                  _cells(column.kept_start, column.kept_stop)] = tile[
                      _cells(row.kept_start - row.start, row.kept_stop - row.start),
                      _cells(column.kept_start - column.start, column.kept_stop - column.start)]
    return whole


def _cells(start: int, stop: int) -> slice:
    return slice(start // cfg.STRIDE, stop // cfg.STRIDE)
