"""What stands behind the words: gradients, texture and shapes that are not text."""

from typing import Tuple

import cv2
import numpy as np

# Rec. 601 weights of blue, green and red in perceived brightness.
_LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)


def chance(random_state: np.random.RandomState, probability: float) -> bool:
    """Throws a coin that says True with the given probability, 0..1."""
    return random_state.rand() < probability


def luma(bgr: np.ndarray) -> np.ndarray:
    """Perceived brightness.

    Args:
        bgr: float (..., 3), blue, green, red, 0..255.

    Returns:
        float (...), 0..255.
    """
    return np.asarray(bgr, np.float32) @ _LUMA_BGR


def contrasting_colour(random_state: np.random.RandomState, behind: np.ndarray,
                       min_difference: float) -> np.ndarray:
    """Draws a colour that stands out from nearly all of what is behind it.

    Args:
        random_state: source of the colour.
        behind: (N, 3) BGR, 0..255, the pixels that the colour will be seen against.
        min_difference: least difference of luma from the darkest and the brightest of them, of
            which a tenth is left out at either end. Where no drawn colour has it, the result is
            the nearly black or nearly white one that comes closest.

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
    """Paints a gradient, soft texture and a few shapes.

    Args:
        random_state: source of every choice.
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
    """Runs from one colour to a related one in a random direction; float32 (size, size, 3)."""
    first = random_state.uniform(30, 225) + random_state.normal(0, 25, 3)
    second = first + random_state.uniform(-60, 60) + random_state.normal(0, 15, 3)
    angle = random_state.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    ramp = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return (first + ramp[:, :, None] * (second - first)).astype(np.float32)


def _texture(random_state: np.random.RandomState, size: int) -> np.ndarray:
    """Smooth brightness noise, coarse and medium; float32 (size, size, 1)."""
    texture = np.zeros((size, size), np.float32)
    for cells in (random_state.randint(3, 8), random_state.randint(12, 40)):
        grid = random_state.standard_normal((cells, cells)).astype(np.float32)
        amplitude = random_state.uniform(2, 12)
        texture += amplitude * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return texture[:, :, None]


def _draw_stripes(random_state: np.random.RandomState, image: np.ndarray) -> None:
    """Rules parallel lines across the image, as planks, tiles and blinds do."""
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
    """Places corners evenly around an ellipse: 3, 4, or enough to look round; int32 (N, 2)."""
    corners = random_state.choice((3, 4, 40))
    angles = random_state.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    points = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round().astype(np.int32)


def _shade_of(random_state: np.random.RandomState, colour: np.ndarray) -> Tuple[float, ...]:
    """Moves a colour away far enough to be seen; what OpenCV takes as a colour."""
    moved = np.clip(np.asarray(colour) + random_state.uniform(-100, 100, 3), 0, 255)
    return tuple(float(value) for value in moved)
