"""Visualization: boxes drawn on images, tinted regions, and contact sheets."""

import math
from typing import Sequence, Tuple

import cv2
import numpy as np

# BGR. A bright line with dark edges is visible on any background.
LINE_COLOUR = (0, 255, 255)
EDGE_COLOUR = (32, 0, 64)
_SHEET_GROUND = 48


def draw_quads(image_bgr: np.ndarray, quads: Sequence[np.ndarray],
               colour: Tuple[int, int, int] = LINE_COLOUR) -> np.ndarray:
    """Draws the outlines of boxes; the line width grows with the image.

    Args:
        image_bgr: uint8 (H, W, 3), BGR. Unchanged.
        quads: int or float (P, 2) each, x and y in pixels; points may lie outside the image.
        colour: of the lines, BGR.

    Returns:
        uint8 (H, W, 3), BGR, a new image.
    """
    drawn = np.ascontiguousarray(image_bgr).copy()
    # One pixel, and one more for every 700 pixels of the longer side.
    width = 1 + max(drawn.shape[:2]) // 700
    outlines = [np.rint(quad).astype(np.int32).reshape(-1, 1, 2) for quad in quads]
    # All edges first, so that no edge covers the line of another box.
    cv2.polylines(drawn, outlines, True, EDGE_COLOUR, 3 * width, cv2.LINE_AA)
    cv2.polylines(drawn, outlines, True, colour, width, cv2.LINE_AA)
    return drawn


def tint(image_bgr: np.ndarray, mask: np.ndarray, colour: Tuple[int, int, int]) -> np.ndarray:
    """Tints a region of an image and turns the rest dark grey.

    Args:
        image_bgr: uint8 (H, W, 3), BGR. Unchanged.
        mask: (h, w), not 0 in the region; resized to the image with nearest neighbours.
        colour: BGR.

    Returns:
        uint8 (H, W, 3), BGR.
    """
    height, width = image_bgr.shape[:2]
    grey = cv2.cvtColor(np.ascontiguousarray(image_bgr), cv2.COLOR_BGR2GRAY)[..., np.newaxis] / 255
    inside = cv2.resize(np.uint8(mask != 0), (width, height), interpolation=cv2.INTER_NEAREST)
    coloured = np.array(colour) * (0.6 + 0.4 * grey)
    return np.where(inside[..., np.newaxis] != 0, coloured, 100 * grey).astype(np.uint8)


def text_line(text: str, size: Tuple[int, int]) -> np.ndarray:
    """Renders a line of text, cut off if it is too long.

    Args:
        text: any characters.
        size: (width, height) in pixels; letters are about half as high.

    Returns:
        uint8 (height, width, 3), light on dark grey.
    """
    width, height = size
    line = np.full((height, width, 3), _SHEET_GROUND, np.uint8)
    # OpenCV aborts the process if a file name has bytes that are not UTF-8.
    drawable = text.encode('utf-8', 'replace').decode('utf-8')
    return cv2.putText(line, drawable, (4, round(0.72 * height)), cv2.FONT_HERSHEY_SIMPLEX,
                       height / 48, (230, 230, 230), 1, cv2.LINE_AA)


def contact_sheet(images: Sequence[np.ndarray], columns: int, cell: Tuple[int, int]) -> np.ndarray:
    """Arranges images in a grid, each resized to fit its cell with its aspect ratio preserved.

    Args:
        images: uint8 (H, W, 3) each, of any sizes; at least one. Unchanged.
        columns: images per row.
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
