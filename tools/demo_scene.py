"""Draws the images of the demo: words of known outline on cluttered backgrounds.

Like a photographed sign, a scene has a common tilt, from which each word deviates a little. Sizes
are fractions of the image's side, so the same scene can be drawn at any size. Randomness comes from
an ``np.random.RandomState``; colours are BGR, 0..255.
"""

import functools
import os
from typing import List, NamedTuple, Optional, Tuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    'OPEN', 'EXIT', 'Coffee', 'Market', 'STATION', 'Bakery', 'hotel', 'PARKING', 'Pharmacy',
    'museum', 'TICKETS', 'Welcome', 'Books', 'SALE', 'garden', 'Platform', 'LIBRARY', 'Street',
    'Bridge', 'CINEMA', 'school', 'Harbour', 'DANGER', 'Private', 'Kitchen', 'TAXI', 'Flowers',
    'office', 'CAFÉ', 'Straße', 'Señor', 'PUSH', 'Pull', 'Menu', 'FRESH', 'Music', 'village',
    'AIRPORT', 'Theatre', 'stop', 'North', 'SOUTH', 'Queen', 'river', 'Summit', 'BANK',
)
_DAYS = ('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun')
_FONT_FILES = (
    'DejaVuSans.ttf', 'DejaVuSans-Bold.ttf', 'DejaVuSans-Oblique.ttf',
    'DejaVuSans-BoldOblique.ttf', 'DejaVuSansMono.ttf', 'DejaVuSansMono-Bold.ttf',
    'DejaVuSerif.ttf', 'DejaVuSerif-Bold.ttf', 'DejaVuSerif-Italic.ttf',
)


def draw_transcription(random_state: np.random.RandomState) -> str:
    """Draws a text as found on signs: mostly a word, sometimes a price, a number or days.

    Returns:
        Text without blanks; some texts contain commas, as in ICDAR2015.
    """
    kind = random_state.choice(('word', 'number', 'price', 'days'), p=(0.9, 0.04, 0.02, 0.04))
    if kind == 'word':
        return random_state.choice(_WORDS)
    if kind == 'number':
        return f'{random_state.randint(1000, 100000):,}'
    if kind == 'price':
        return f'${random_state.randint(100, 500000) / 100:,.2f}'
    return ','.join(random_state.choice(_DAYS, 2, replace=False))


def draw_font(random_state: np.random.RandomState) -> str:
    """Draws one of the DejaVu fonts that matplotlib ships; returns the file's path."""
    return os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf',
                        random_state.choice(_FONT_FILES))


def glyph_mask(transcription: str, font_path: str, em: int) -> np.ndarray:
    """Draws a word upright, cropped to the outermost pixels of its glyphs.

    Args:
        transcription: text to write, one line.
        font_path: a TrueType file.
        em: font size in pixels.

    Returns:
        uint8 (H, W), 255 where ink covers a pixel fully.

    Raises:
        ValueError: the transcription has no visible glyphs.
    """
    font = _load_font(font_path, em)
    left, top, right, bottom = font.getbbox(transcription)
    canvas = Image.new('L', (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(canvas).text((1 - left, 1 - top), transcription, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f'nothing to draw in {transcription!r}')
    return np.asarray(canvas.crop(box))


@functools.lru_cache(maxsize=256)
def _load_font(font_path: str, em: int) -> ImageFont.FreeTypeFont:
    # Every build of Pillow has the basic layout; the optional one gives different outlines.
    return ImageFont.truetype(font_path, em, layout_engine=ImageFont.Layout.BASIC)


# Rec. 601 weights of blue, green and red in perceived brightness.
_LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)


def chance(random_state: np.random.RandomState, probability: float) -> bool:
    """Returns True with the given probability, 0..1."""
    return random_state.rand() < probability


def luma(bgr: np.ndarray) -> np.ndarray:
    """Computes the perceived brightness of colours.

    Args:
        bgr: float (..., 3), blue, green, red, 0..255.

    Returns:
        float (...), 0..255.
    """
    return np.asarray(bgr, np.float32) @ _LUMA_BGR


def contrasting_colour(random_state: np.random.RandomState, behind: np.ndarray,
                       min_difference: float) -> np.ndarray:
    """Draws a colour that stands out from most of its background.

    Args:
        random_state: source of the colour.
        behind: (N, 3) BGR, 0..255, pixels of the background.
        min_difference: minimum difference of luma from the 10th and 90th percentile of the
            background. If no drawn colour reaches it, the result is nearly black or nearly white,
            whichever contrasts more.

    Returns:
        float32 (3,) BGR, 0..255.
    """
    dark, bright = np.percentile(luma(behind), (10, 90))
    for _ in range(20):
        colour = random_state.uniform(0, 255, 3).astype(np.float32)
        if max(dark - luma(colour), luma(colour) - bright) >= min_difference:
            return colour
    return np.full(3, 10 if dark > 255 - bright else 245, np.float32)


def draw_background(random_state: np.random.RandomState, size: int) -> np.ndarray:
    """Draws a gradient with soft texture and a few shapes.

    Args:
        random_state: source of randomness.
        size: side of the square image in pixels.

    Returns:
        float32 (size, size, 3) BGR, 0..255.
    """
    image = _gradient(random_state, size) + _texture(random_state, size)
    image = np.clip(image, 0, 255)
    if chance(random_state, 0.3):
        _draw_stripes(random_state, image)
    for _ in range(random_state.randint(1, 5)):
        _draw_shape(random_state, image)
    return image


def _gradient(random_state: np.random.RandomState, size: int) -> np.ndarray:
    """Draws a gradient between two related colours; float32 (size, size, 3)."""
    first = random_state.uniform(30, 225) + random_state.normal(0, 25, 3)
    second = first + random_state.uniform(-60, 60) + random_state.normal(0, 15, 3)
    angle = random_state.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    ramp = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return (first + ramp[:, :, None] * (second - first)).astype(np.float32)


def _texture(random_state: np.random.RandomState, size: int) -> np.ndarray:
    """Draws smooth brightness noise at two scales; float32 (size, size, 1)."""
    texture = np.zeros((size, size), np.float32)
    for cells in (random_state.randint(3, 8), random_state.randint(12, 40)):
        grid = random_state.standard_normal((cells, cells)).astype(np.float32)
        amplitude = random_state.uniform(2, 12)
        texture += amplitude * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return texture[:, :, None]


def _draw_stripes(random_state: np.random.RandomState, image: np.ndarray) -> None:
    """Draws parallel lines across the image, like planks, tiles or blinds."""
    size = image.shape[0]
    step = random_state.uniform(0.08, 0.25) * size
    colour = _shade_of(random_state, image.mean(axis=(0, 1)))
    vertical = chance(random_state, 0.5)
    for offset in np.arange(random_state.uniform(0, step), size, step):
        start, end = (int(offset), 0), (int(offset), size)
        if not vertical:
            start, end = start[::-1], end[::-1]
        cv2.line(image, start, end, colour, random_state.randint(1, 3), cv2.LINE_AA)


def _draw_shape(random_state: np.random.RandomState, image: np.ndarray) -> None:
    """Blends one filled or outlined shape, or a thick line, into the image."""
    size = image.shape[0]
    centre = random_state.uniform(0, size, 2)
    colour = _shade_of(random_state, image[tuple(np.int32(centre)[::-1])])
    layer = image.copy()
    if chance(random_state, 0.25):
        end = centre + random_state.uniform(-0.7, 0.7, 2) * size
        cv2.line(layer, tuple(map(int, centre)), tuple(map(int, end)), colour,
                 random_state.randint(1, 5), cv2.LINE_AA)
    else:
        outline = _outline(random_state, centre, random_state.uniform(0.04, 0.3, 2) * size)
        if chance(random_state, 0.6):
            cv2.fillPoly(layer, [outline], colour, cv2.LINE_AA)
        else:
            cv2.polylines(layer, [outline], True, colour, random_state.randint(1, 4), cv2.LINE_AA)
    image += random_state.uniform(0.4, 1.0) * (layer - image)


def _outline(random_state: np.random.RandomState, centre: np.ndarray,
             radii: np.ndarray) -> np.ndarray:
    """Draws an ellipse or an inscribed triangle or quadrilateral; int32 (N, 2)."""
    corners = random_state.choice((3, 4, 40))
    angles = random_state.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    points = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round().astype(np.int32)


def _shade_of(random_state: np.random.RandomState, colour: np.ndarray) -> Tuple[float, ...]:
    """Draws a colour that differs visibly from another, as a tuple for OpenCV."""
    moved = np.clip(np.asarray(colour) + random_state.uniform(-100, 100, 3), 0, 255)
    return tuple(float(value) for value in moved)


# Words are drawn at this scale and averaged down, for smooth edges of rotated glyphs.
_SUPERSAMPLING = 3
_MAX_ANGLE = 30.0
# Font sizes as fractions of the image's side.
_READABLE_EM = (0.10, 0.19)
_TINY_EM = (0.03, 0.04)
# Margin of a sign around its word, as a fraction of the font size.
_SIGN_MARGIN = 0.12
# Free space around a word, as a fraction of the font size, and along the image's edge.
_GAP = 0.45
_EDGE = 0.02
_PLACING_TRIES = 25
# Arc of a curved word in radians: at most, and per unit of its aspect ratio.
_MAX_BEND = 2.6
_BEND_OF_SQUARE = 0.7
DO_NOT_CARE = '###'


class Word(NamedTuple):
    """A text region.

    ``polygon`` is int32 (P, 2) x, y, clockwise from the text's top-left corner, inside the image:
    four points, or fourteen for a curved word; ``transcription`` is ``###`` for a region that is
    to be ignored.
    """

    polygon: np.ndarray
    transcription: str


class Scene(NamedTuple):
    """``image`` uint8 (size, size, 3) BGR and the words on it."""

    image: np.ndarray
    words: Tuple[Word, ...]


class _Style(NamedTuple):
    """Style of a kind of words: ``em`` is a range, ``blur`` a fraction of the font size."""

    em: Tuple[float, float]
    min_contrast: float
    blur: float = 0.0
    readable: bool = True


_READABLE = _Style(_READABLE_EM, 80)
_TINY = _Style(_TINY_EM, 50, readable=False)
_BLURRED = _Style((0.10, 0.14), 80, blur=0.1, readable=False)


def draw_scene(random_state: np.random.RandomState, size: int, curved: bool = False) -> Scene:
    """Draws an image with at least one readable word.

    Args:
        random_state: source of randomness; equal states give equal scenes.
        size: side of the square image in pixels, at least 96.
        curved: draw the words along arcs.
    """
    painter = _Painter(random_state, size, curved)
    while not painter.place(_READABLE):
        pass
    for _ in range(random_state.randint(1, 6)):
        painter.place(_READABLE)
    for style in (_TINY, _BLURRED):
        if chance(random_state, 0.15):
            painter.place(style)
    return Scene(_finish(random_state, painter.image), tuple(painter.words))


class _Painter:
    """An image in progress: pixels, words, and the occupied area."""

    def __init__(self, random_state: np.random.RandomState, size: int,
                 curved: bool = False) -> None:
        self._random = random_state
        self._size = size
        self._curved = curved
        self._tilt = random_state.uniform(-_MAX_ANGLE, _MAX_ANGLE)
        self._taken = np.zeros((size, size), np.uint8)
        self.image = draw_background(random_state, size)
        self.words: List[Word] = []

    def place(self, style: _Style) -> bool:
        """Draws a word if there is room; returns False if no place was found."""
        text = draw_transcription(self._random)
        em = self._random.uniform(*style.em) * self._size
        glyphs = glyph_mask(text, draw_font(self._random), max(1, int(round(em * _SUPERSAMPLING))))
        bend = self._draw_bend(glyphs.shape) if self._curved else 0.0
        strip = _Strip(glyphs.shape[1] / _SUPERSAMPLING, glyphs.shape[0] / _SUPERSAMPLING, bend)
        room = self._find_room(strip, gap=_GAP * em)
        if room is None:
            return False
        corners, angle = room
        opacity = _warp_bent(glyphs, strip, corners, angle, self._size) if bend else _warp(
            glyphs, corners, self._size)
        self._paint(opacity, corners, style, em)
        polygon = corners.round().astype(np.int32)
        self.words.append(Word(polygon, text if style.readable else DO_NOT_CARE))
        return True

    def _draw_bend(self, shape: Tuple[int, int]) -> float:
        """Draws the arc in radians, limited so that glyphs do not meet; positive arches up."""
        most = min(_MAX_BEND, _BEND_OF_SQUARE * shape[1] / shape[0])
        return self._random.choice((-1, 1)) * most * self._random.uniform(0.6, 1)

    def _find_room(self, strip: '_Strip', gap: float) -> Optional[Tuple[np.ndarray, float]]:
        """Finds a free place for glyphs: outline, float32 (P, 2), and rotation in degrees."""
        for _ in range(_PLACING_TRIES):
            angle = np.clip(self._tilt + self._random.uniform(-5, 5), -_MAX_ANGLE, _MAX_ANGLE)
            corners = _turned(strip.outline(), angle)
            corners -= corners.min(axis=0)
            edge = _EDGE * self._size
            room = self._size - 1 - 2 * edge - corners.max(axis=0)
            if room.min() <= 0:
                continue
            corners += (edge + self._random.uniform(0, 1, 2) * room).astype(np.float32)
            zone = self._zone(corners, gap)
            if not (self._taken & zone).any():
                self._taken |= self._zone(corners, 0)
                return corners, angle
        return None

    def _zone(self, corners: np.ndarray, gap: float) -> np.ndarray:
        """Marks a polygon and all pixels within ``gap`` of it; uint8 (size, size), 0 or 1."""
        zone = np.zeros_like(self._taken)
        points = corners.round().astype(np.int32)
        cv2.fillPoly(zone, [points], 1)
        cv2.polylines(zone, [points], True, 1, 1 + 2 * int(round(gap)))
        return zone

    def _paint(self, opacity: np.ndarray, corners: np.ndarray, style: _Style, em: float) -> None:
        """Paints glyphs, some of them on a sign or with an edge."""
        sign = self._zone(corners, _SIGN_MARGIN * em)
        if chance(self._random, 0.25):
            plate = cv2.GaussianBlur(sign.astype(np.float32), (0, 0), 0.6)
            self._blend(plate, self._random.uniform(0, 255, 3).astype(np.float32))
        colour = contrasting_colour(self._random, self.image[sign.astype(bool)],
                                    style.min_contrast)
        if chance(self._random, 0.2):
            edge = cv2.dilate(opacity, np.ones((3, 3), np.uint8))
            self._blend(edge, 255 - colour)
        if style.blur:
            opacity = cv2.GaussianBlur(opacity, (0, 0), style.blur * em)
        self._blend(opacity, colour)

    def _blend(self, opacity: np.ndarray, colour: np.ndarray) -> None:
        self.image += opacity[:, :, None] * (colour - self.image)


class _Strip(NamedTuple):
    """A strip for glyphs along an arc of ``bend`` radians, straight if that is 0."""

    width: float
    height: float
    bend: float

    def outline(self) -> np.ndarray:
        """Float32 (P, 2), clockwise from the top-left corner."""
        columns = np.linspace(0, self.width, 7 if self.bend else 2, dtype=np.float32)
        top, bottom = (np.stack([columns, np.full_like(columns, y)], axis=1)
                       for y in (0, self.height))
        return self._bent(np.concatenate([top, bottom[::-1]]))

    def _bent(self, points: np.ndarray) -> np.ndarray:
        """Maps points of the straight strip to the arc, whose centre is the origin."""
        if not self.bend:
            return points
        side, radius = np.sign(self.bend), self.width / abs(self.bend)
        angles = (points[:, 0] / self.width - 0.5) * abs(self.bend)
        radii = radius + side * (self.height / 2 - points[:, 1])
        return np.stack([radii * np.sin(angles), -side * radii * np.cos(angles)],
                        axis=1).astype(np.float32)

    def straightened(self, points: np.ndarray) -> np.ndarray:
        """Maps points on the arc back to the straight strip."""
        side, radius = np.sign(self.bend), self.width / abs(self.bend)
        x, y = points[..., 0], points[..., 1]
        along = np.arctan2(x, -side * y) / abs(self.bend) + 0.5
        across = self.height / 2 - side * (np.hypot(x, y) - radius)
        return np.stack([along * self.width, across], axis=-1)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Rotates points, float32 (..., 2), clockwise on the screen by ``angle`` degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return points @ np.array([[cos, sin], [-sin, cos]], np.float32)


def _warp_bent(glyphs: np.ndarray, strip: _Strip, corners: np.ndarray, angle: float,
               size: int) -> np.ndarray:
    """Warps upright glyphs along an arc; float32 (size, size), 0..1."""
    shift = corners[0] - _turned(strip.outline(), angle)[0]
    side = (np.arange(size * _SUPERSAMPLING, dtype=np.float32) + 0.5) / _SUPERSAMPLING
    places = np.stack(np.meshgrid(side, side), axis=-1) - shift
    source = strip.straightened(_turned(places.astype(np.float32), -angle)) * _SUPERSAMPLING - 0.5
    warped = cv2.remap(glyphs, source.astype(np.float32), None, cv2.INTER_LINEAR)
    return cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _warp(glyphs: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Warps upright glyphs into a quadrilateral; float32 (size, size), 0..1."""
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
    """Adds uneven light, slight blur and noise, as a camera does; uint8 of the same shape."""
    size = image.shape[0]
    light = cv2.resize(random_state.uniform(0.8, 1.15, (2, 2)).astype(np.float32), (size, size))
    image = cv2.GaussianBlur(image * light[:, :, None], (0, 0), random_state.uniform(0.3, 0.8))
    image = image + random_state.normal(0, random_state.uniform(1, 8), image.shape)
    return np.clip(image, 0, 255).round().astype(np.uint8)
