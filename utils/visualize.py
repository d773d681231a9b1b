"""Pictures for people: boxes drawn on an image, and several images on one sheet."""

import math
from typing import Sequence, Tuple

import cv2
import numpy as np

# BGR. A bright line between dark edges stands out from light, dark and busy grounds alike.
LINE_COLOUR = (0, 255, 255)
EDGE_COLOUR = (32, 0, 64)
_SHEET_GROUND = 48


def draw_quads(image_bgr: np.ndarray, quads: Sequence[np.ndarray],
               colour: Tuple[int, int, int] = LINE_COLOUR) -> np.ndarray:
    """Draws the outlines of boxes, lines growing with the image.

    Args:
        image_bgr: uint8 (H, W, 3), BGR. Unchanged.
        quads: int or float (P, 2) each, x, y in pixels of the image; points outside are allowed.
        colour: of the lines, BGR.

    Returns:
        uint8 (H, W, 3), BGR, a new image.
    """
    drawn = np.ascontiguousarray(image_bgr).copy()
    # One pixel up to 700 pixels of the longer side, then one more for every 700.
    width = 1 + max(drawn.shape[:2]) // 700
    outlines = [np.rint(quad).astype(np.int32).reshape(-1, 1, 2) for quad in quads]
    # All edges first: where boxes meet, no edge then covers another box's line.
    cv2.polylines(drawn, outlines, True, EDGE_COLOUR, 3 * width, cv2.LINE_AA)
    cv2.polylines(drawn, outlines, True, colour, width, cv2.LINE_AA)
    return drawn


def tint(image_bgr: np.ndarray, mask: np.ndarray, colour: Tuple[int, int, int]) -> np.ndarray:
    """Lays a colour over a part of an image, through which the image can still be seen.

    Args:
        image_bgr: uint8 (H, W, 3), BGR. Unchanged.
        mask: (h, w), not 0 where the colour goes; enlarged pixel by pixel to the image's size.
        colour: BGR.

    Returns:
        uint8 (H, W, 3), BGR: the image dark and grey, but for the part with the colour.
    """
    height, width = image_bgr.shape[:2]
    grey = cv2.cvtColor(np.ascontiguousarray(image_bgr), cv2.COLOR_BGR2GRAY)[..., np.newaxis] / 255
    inside = cv2.resize(np.uint8(mask != 0), (width, height), interpolation=cv2.INTER_NEAREST)
    coloured = np.array(colour) * (0.6 + 0.4 * grey)
    return np.where(inside[..., np.newaxis] != 0, coloured, 100 * grey).astype(np.uint8)


def text_line(text: str, size: Tuple[int, int]) -> np.ndarray:
    """Writes a line of text, cut off where it is too long.

    Args:
        text: any characters.
        size: (width, height) in pixels; the letters have about half of the height.

    Returns:
        uint8 (height, width, 3), light on dark grey.
    """
    width, height = size
    line = np.full((height, width, 3), _SHEET_GROUND, np.uint8)
    # OpenCV ends the process where a file name has bytes that are no UTF-8.
    drawable = text.encode('utf-8', 'replace').decode('utf-8')
    return cv2.putText(line, drawable, (4, round(0.72 * height)), cv2.FONT_HERSHEY_SIMPLEX,
                       height / 48, (230, 230, 230), 1, cv2.LINE_AA)


def contact_sheet(images: Sequence[np.ndarray], columns: int, cell: Tuple[int, int]) -> np.ndarray:
    """Sets images side by side, each shrunk or enlarged to fit its cell with its aspect kept.

    Args:
        images: uint8 (H, W, 3) each, of any sizes; at least one. Unchanged.
        columns: images in a row.
        cell: (width, height) of a cell in pixels.

    Returns:
        uint8 (rows * height, columns * width, 3), images in reading order, centred on dark grey.
    """
    width, height = cell
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * height, columns * width, 3), _SHEET_GROUND, np.uint8)
    for index, image in enumerate(images):
        small = _fit(image, cell)
        top = index // columns * height + (height - small.shape[0]) // 2
        left = index % columns * width + (width - small.shape[1]) // 2
        sheet[top:top + small.shape[0], left:left + small.shape[1]] = small
    return sheet


def _fit(image: np.ndarray, cell: Tuple[int, int]) -> np.ndarray:
    scale = min(cell[0] / image.shape[1], cell[1] / image.shape[0])
    size = [max(1, min(limit, round(side * scale)))
            for side, limit in zip(image.shape[1::-1], cell)]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, tuple(size), interpolation=interpolation)
