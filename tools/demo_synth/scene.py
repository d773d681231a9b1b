"""One picture of the demo: words placed without overlap, and the quads that bound their ink.

A scene has a common tilt, as a photographed sign has, and every word its own small deviation from
it. Sizes are fractions of the picture's side, so the same scene can be had at any size.
"""

from typing import List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from tools.demo_synth import background, words

# Words are drawn this much larger and averaged down, which smooths the edges of turned glyphs.
_SUPERSAMPLING = 3
_MAX_ANGLE = 30.0
# Font sizes as fractions of the picture's side.
_READABLE_EM = (0.10, 0.19)
_TINY_EM = (0.03, 0.04)
# How far a sign reaches beyond its word, as a share of the font size.
_SIGN_MARGIN = 0.12
# What is kept free around a word, as a share of the font size, and along the picture's edge.
_GAP = 0.45
_EDGE = 0.02
_PLACING_TRIES = 25
DO_NOT_CARE = '###'


class Word(NamedTuple):
    """A text region.

    ``quad`` is int32 (4, 2) x, y, clockwise from the text's top-left corner, inside the picture;
    ``transcription`` is ``###`` where the region is not to be cared for.
    """

    quad: np.ndarray
    transcription: str


class Scene(NamedTuple):
    """``image`` uint8 (size, size, 3) BGR and the words on it."""

    image: np.ndarray
    words: Tuple[Word, ...]


class _Style(NamedTuple):
    """How words of one kind look: ``em`` is a range, ``blur`` a share of the font size."""

    em: Tuple[float, float]
    min_contrast: float
    blur: float = 0.0
    readable: bool = True


_READABLE = _Style(_READABLE_EM, 80)
_TINY = _Style(_TINY_EM, 50, readable=False)
_BLURRED = _Style((0.10, 0.14), 80, blur=0.1, readable=False)


def draw_scene(random_state: np.random.RandomState, size: int) -> Scene:
    """Draws a picture with at least one readable word.

    Args:
        random_state: source of every choice; equal states give equal scenes.
        size: side of the square picture in pixels, at least 96.

    Returns:
        the Scene.
    """
    painter = _Painter(random_state, size)
    painter.place_first()
    for _ in range(random_state.randint(1, 6)):
        painter.place(_READABLE)
    for style in (_TINY, _BLURRED):
        if background.chance(random_state, 0.15):
            painter.place(style)
    return Scene(_finish(random_state, painter.image), tuple(painter.words))


class _Painter:
    """The picture while it grows: pixels, words, and the area that is taken."""

    def __init__(self, random_state: np.random.RandomState, size: int) -> None:
        self._random = random_state
        self._size = size
        self._tilt = random_state.uniform(-_MAX_ANGLE, _MAX_ANGLE)
        self._taken = np.zeros((size, size), np.uint8)
        self.image = background.draw_background(random_state, size)
        self.words: List[Word] = []

    def place_first(self) -> None:
        """Places one readable word for certain: tries until one fits the empty picture."""
        while not self.place(_READABLE):
            pass

    def place(self, style: _Style) -> bool:
        """Draws a word where there is room; returns False when no place was found."""
        text = words.draw_transcription(self._random)
        em = self._random.uniform(*style.em) * self._size
        glyphs = words.glyph_mask(text, words.draw_font(self._random),
                                  max(1, int(round(em * _SUPERSAMPLING))))
        corners = self._find_room(glyphs.shape, gap=_GAP * em)
        if corners is None:
            return False
        self._paint(glyphs, corners, style, em)
        quad = corners.round().astype(np.int32)
        self.words.append(Word(quad, text if style.readable else DO_NOT_CARE))
        return True

    def _find_room(self, shape: Tuple[int, int], gap: float) -> Optional[np.ndarray]:
        """Returns the corners, float32 (4, 2), of a free place for glyphs of that shape."""
        width, height = shape[1] / _SUPERSAMPLING, shape[0] / _SUPERSAMPLING
        for _ in range(_PLACING_TRIES):
            angle = np.clip(self._tilt + self._random.uniform(-5, 5), -_MAX_ANGLE, _MAX_ANGLE)
            corners = _turned_rectangle(width, height, angle)
            edge = _EDGE * self._size
            room = self._size - 1 - 2 * edge - corners.max(axis=0)
            if room.min() <= 0:
                continue
            corners += (edge + self._random.uniform(0, 1, 2) * room).astype(np.float32)
            zone = self._zone(corners, gap)
            if not (self._taken & zone).any():
                self._taken |= self._zone(corners, 0)
                return corners
        return None

    def _zone(self, corners: np.ndarray, gap: float) -> np.ndarray:
        """Marks a quad and everything within ``gap`` pixels of it; uint8 (size, size), 0 or 1."""
        zone = np.zeros_like(self._taken)
        points = corners.round().astype(np.int32)
        cv2.fillPoly(zone, [points], 1)
        cv2.polylines(zone, [points], True, 1, 1 + 2 * int(round(gap)))
        return zone

    def _paint(self, glyphs: np.ndarray, corners: np.ndarray, style: _Style, em: float) -> None:
        """Puts the glyphs onto the picture, some of them on a sign or with an edge."""
        margin = _SIGN_MARGIN * em
        inside = self._zone(corners, margin).astype(bool)
        if background.chance(self._random, 0.25):
            self._paint_sign(corners, margin)
        colour = background.contrasting_colour(self._random, self.image[inside],
                                               style.min_contrast)
        opacity = _warp(glyphs, corners, self._size)
        if background.chance(self._random, 0.2):
            edge = cv2.dilate(opacity, np.ones((3, 3), np.uint8))
            self._blend(edge, 255 - colour)
        if style.blur:
            opacity = cv2.GaussianBlur(opacity, (0, 0), style.blur * em)
        self._blend(opacity, colour)

    def _paint_sign(self, corners: np.ndarray, margin: float) -> None:
        """Lays a plain plate behind a word."""
        plate = self._zone(corners, margin).astype(np.float32)
        plate = cv2.GaussianBlur(plate, (0, 0), 0.6)
        self._blend(plate, self._random.uniform(0, 255, 3).astype(np.float32))

    def _blend(self, opacity: np.ndarray, colour: np.ndarray) -> None:
        self.image += opacity[:, :, None] * (colour - self.image)


def _turned_rectangle(width: float, height: float, angle: float) -> np.ndarray:
    """Corners clockwise from the top-left one, turned by ``angle`` degrees and moved to x, y >= 0.

    Returns:
        float32 (4, 2).
    """
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turned = corners @ np.array([[cos, sin], [-sin, cos]], np.float32)
    return turned - turned.min(axis=0)


def _warp(glyphs: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Lays upright glyphs into a quad; float32 (size, size), 0..1."""
    height, width = glyphs.shape
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
    patch = (corners - (left, top)).astype(np.float32) * _SUPERSAMPLING
    matrix = cv2.getPerspectiveTransform(source, patch)
    shape = int(right - left), int(bottom - top)
    warped = cv2.warpPerspective(glyphs, matrix, tuple(_SUPERSAMPLING * side for side in shape))
    opacity = np.zeros((size, size), np.float32)
    opacity[top:bottom, left:right] = cv2.resize(warped, shape, interpolation=cv2.INTER_AREA)
    return opacity / 255


def _finish(random_state: np.random.RandomState, image: np.ndarray) -> np.ndarray:
    """Adds what a camera adds: uneven light, slight blur, noise; uint8 of the same shape."""
    size = image.shape[0]
    light = cv2.resize(random_state.uniform(0.8, 1.15, (2, 2)).astype(np.float32), (size, size))
    image = cv2.GaussianBlur(image * light[:, :, None], (0, 0), random_state.uniform(0.3, 0.8))
    image = image + random_state.normal(0, random_state.uniform(1, 8), image.shape)
    return np.clip(image, 0, 255).round().astype(np.uint8)
