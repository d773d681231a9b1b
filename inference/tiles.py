"""Score maps of large images from overlapping tiles.

The maps are merged before the expansion, so that words are not cut at tile borders. Each tile
extends MARGIN pixels beyond the part of the maps that is taken from it. This exceeds the receptive
field, so that the result equals that of the whole image up to rounding.
"""

from typing import Callable, Iterator, NamedTuple

import numpy as np

from utils.utils_tool import cfg

# At least half of the receptive field: 241 pixels of ResNet-50, 32 of the upsampling of P5, and
# 16 + 8 + 4 + 4 of the following 3x3 convolutions. A multiple of 32, to align tiles with cells.
MARGIN = 320
MIN_TILE_SIDE = 2 * MARGIN + cfg.SIDE_MULTIPLE


class Span(NamedTuple):
    """A tile along one axis, in pixels; the ends are exclusive."""

    start: int
    stop: int
    kept_start: int     # part that is taken from its score maps
    kept_stop: int


def spans(length: int, side: int) -> Iterator[Span]:
    """Divides an axis into tiles that overlap by at least twice MARGIN.

    Args:
        length: length of the axis in pixels, a multiple of 32.
        side: side of a tile in pixels, a multiple of 32, at least MIN_TILE_SIDE.

    Yields:
        The tiles, in order; their kept parts cover the axis once.
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
        score_maps: runs the network on one image; see ``ScoreNetwork.score_maps``.
        image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.
        side: side of a tile, as for ``spans``; a shorter axis is a single tile.

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
