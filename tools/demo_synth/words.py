"""What is written: transcriptions, the fonts that draw them, and tight glyph masks."""

import functools
import os

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
    """Draws a word as signs have them: mostly plain, now and then a price, number or days.

    Returns:
        str without blanks; some hold commas, as ICDAR2015 transcriptions do.
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
    """Draws one of the DejaVu faces that matplotlib ships; returns the file's path."""
    return os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf',
                        random_state.choice(_FONT_FILES))


def glyph_mask(transcription: str, font_path: str, em: int) -> np.ndarray:
    """Draws a word upright and cuts it out along the outermost pixels of its glyphs.

    Args:
        transcription: what to write, one line.
        font_path: a TrueType file.
        em: font size in pixels.

    Returns:
        uint8 (H, W), 255 where ink covers a pixel fully.

    Raises:
        ValueError: the transcription leaves no ink.
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
    # The basic layout is in every build of Pillow; the other one changes the outlines where it is.
    return ImageFont.truetype(font_path, em, layout_engine=ImageFont.Layout.BASIC)
