"""Augmentation: random scale, crop, rotation, flip and colours of training samples.

The reference crops along rows and columns without text and stretches the crop to a square.
``scaled`` crops are square windows of the image instead, which is scaled, rotated and flipped.

A plan is drawn from the size of the image and its polygons, without its pixels, so that a failed
draw does not cost decoding. All randomness comes from a RandomState: the same state draws the same
sample.
"""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from utils.geometry import bounds
from utils.utils_tool import cfg

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0, 3.0)
BACKGROUND_SHARE = 3 / 8
CROP_TRIES = 50


CROPS = ('stretched', 'scaled')
# Of scaled crops: change of the aspect ratio, share of crops around a word, and the word's maximum
# distance from the centre as a share of the window.
_ASPECT_RANGE = (0.9, 1.1)
_WORD_SHARE = 0.9
_WORD_OFFSET = 0.42
# How far a window may extend beyond the image, as a share of its side.
_OUTSIDE = 0.1
# BGR outside the image; the network subtracts these means.
_PADDING = cfg.MEAN_RGB[::-1]
# Maximum changes: of 255 for the brightness, otherwise of 1.
_BRIGHTNESS, _CONTRAST, _SATURATION = 0.125 * 255, 0.3, 0.5


class Augmentation(NamedTuple):
    """Configuration of augmentation; scales, flip and rotation apply to scaled crops."""

    crop: str = 'stretched'                         # one of CROPS
    scales: Tuple[float, float] = (0.7, 2.3)        # of the image, drawn log-uniformly
    flip: bool = False                              # flip half of the crops horizontally
    max_rotation: float = 0.0                       # degrees, in either direction
    colour_jitter: bool = False                     # brightness, contrast and saturation


REFERENCE = Augmentation()


class Colours(NamedTuple):
    """A change of colours: pixels become contrast * (pixel - mean) + mean + brightness."""

    brightness: float
    contrast: float
    saturation: float       # 0 is greyscale


class Crop(NamedTuple):
    """A part of an image and the regions inside it."""

    box: Tuple[int, int, int, int]  # left, top, right, bottom in pixels, the latter two exclusive
    kept: np.ndarray                # int (K,), indices of polygons


class SamplePlan(NamedTuple):
    """A training sample to be rendered from an image."""

    scaled_size: Tuple[int, int]    # (height, width) to which the image is resized
    box: Tuple[int, int, int, int]  # crop of the resized image, as in Crop
    polygons: List[np.ndarray]      # float32 (P, 2) each, x and y in pixels of the network's input
    ignore_tags: np.ndarray         # bool (K,)
    matrix: Optional[np.ndarray] = None     # float64 (2, 3), image to input, for a scaled crop
    colours: Optional[Colours] = None


def draw_crop(size: Tuple[int, int], boxes: np.ndarray, background: bool, min_side_ratio: float,
              rng: np.random.RandomState) -> Optional[Crop]:
    """Draws a crop whose borders do not cut any region.

    A text crop is the first of fifty tries that contains a region, or else the whole image. A
    background crop is the first try that is large enough.

    Args:
        size: (height, width) of the image.
        boxes: float (N, 4), the smallest x, smallest y, largest x and largest y of each region.
        background: draw a crop without regions.
        min_side_ratio: minimum side of a crop as a share of the image's side.
        rng: source of randomness.

    Returns:
        The crop; None if the image has no text, or no suitable background was drawn.
    """
    tries = _draw_tries(size, boxes, min_side_ratio, rng)
    inside = _lies_inside(boxes, tries)
    if background:
        if not len(tries) or inside[0].any():
            return None
        return Crop(tuple(tries[0].tolist()), np.empty(0, np.intp))
    hits = np.flatnonzero(inside.any(axis=1))
    if hits.size:
        return Crop(tuple(tries[hits[0]].tolist()), np.flatnonzero(inside[hits[0]]))
    height, width = size
    return Crop((0, 0, width, height), np.arange(len(boxes))) if len(boxes) else None


def _draw_tries(size: Tuple[int, int], boxes: np.ndarray, min_side_ratio: float,
                rng: np.random.RandomState) -> np.ndarray:
    """Draws crops and returns those that are large enough, int (T, 4)."""
    height, width = size
    columns = _free_positions(width, boxes[:, 0], boxes[:, 2])
    rows = _free_positions(height, boxes[:, 1], boxes[:, 3])
    if not columns.size or not rows.size:
        return np.array([[0, 0, width, height]])
    left, right = _draw_intervals(columns, width, rng)
    top, bottom = _draw_intervals(rows, height, rng)
    # At least two pixels: if both borders fall into the same padding, a line of one pixel is left,
    # which may cut a region.
    large = ((right - left >= max(2, min_side_ratio * width))
             & (bottom - top >= max(2, min_side_ratio * height)))
    return np.stack([left, top, right, bottom], axis=1)[large]


def _free_positions(length: int, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Finds the positions along an axis, including padding, that no region touches."""
    # Because of the padding, crops often end at the border of the image.
    pad = length // 10
    free = np.ones(length + 2 * pad, np.bool_)
    # Slicing with Python's integers is faster than with NumPy's.
    for low, high in np.rint([lows, highs]).astype(int).T.tolist():
        free[low + pad:high + pad + 1] = False
    return free.nonzero()[0] - pad


def _draw_intervals(positions: np.ndarray, length: int, rng: np.random.RandomState,
                    ) -> Tuple[np.ndarray, np.ndarray]:
    """Draws intervals inside the image: starts and exclusive ends, int (CROP_TRIES,) each."""
    drawn = positions[rng.randint(positions.size, size=(2, CROP_TRIES))]
    # For so few numbers, np.clip takes five times as long.
    first, last = np.minimum(np.maximum(np.sort(drawn, axis=0), 0), length - 1)
    return first, last + 1


def _lies_inside(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Tests if box n lies completely on pixels of crop t: bool (T, N).

    A pixel at position p covers [p, p + 1): in a reduced image, regions at the far border may lie
    between the last position and the border.
    """
    crops = crops[:, np.newaxis]
    return ((boxes[:, :2] >= crops[..., :2]) & (boxes[:, 2:] < crops[..., 2:])).all(axis=-1)


def plan_sample(size: Tuple[int, int], polygons: Sequence[np.ndarray],  # noqa: PLR0913
                ignore_tags: np.ndarray,
                input_size: int, min_crop_side_ratio: float, rng: np.random.RandomState,
                augmentation: Augmentation = REFERENCE) -> Optional[SamplePlan]:
    """Draws a training sample: scale, kind of crop, crop, and colours.

    Args:
        size: (height, width) of the image.
        polygons: float32 (P, 2) each, x and y in pixels of the image, inside it.
        ignore_tags: bool (N,).
        input_size: side of the network's input in pixels.
        min_crop_side_ratio: as min_side_ratio of draw_crop.
        rng: source of randomness.
        augmentation: configuration.

    Returns:
        The plan; None if the image has no crop of the kind that was drawn.
    """
    if augmentation.crop == 'scaled':
        plan = _plan_scaled(size, polygons, ignore_tags, input_size, augmentation, rng)
    else:
        plan = _plan_stretched(size, polygons, ignore_tags, input_size, min_crop_side_ratio, rng)
    if plan is None or not augmentation.colour_jitter:
        return plan
    return plan._replace(colours=Colours(
        rng.uniform(-_BRIGHTNESS, _BRIGHTNESS), 1 + rng.uniform(-_CONTRAST, _CONTRAST),
        1 + rng.uniform(-_SATURATION, _SATURATION)))


def _plan_scaled(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: np.ndarray,
                 input_size: int, augmentation: Augmentation, rng: np.random.RandomState,
                 ) -> SamplePlan:
    scale = math.exp(rng.uniform(*np.log(augmentation.scales)))
    aspect = math.exp(rng.uniform(*np.log(_ASPECT_RANGE)))
    angle = math.radians(rng.uniform(-1, 1) * augmentation.max_rotation)
    mirror = -1 if augmentation.flip and rng.random_sample() < 0.5 else 1
    zoom = np.array([scale * aspect, scale])
    centre = _draw_centre(size, polygons, ignore_tags, input_size / zoom, rng)
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag(zoom) @ np.diag([mirror, 1])
    middle = (input_size - 1) / 2
    matrix = np.concatenate([linear, (middle - linear @ centre)[:, np.newaxis]], axis=1)
    moved = [(polygon @ linear.T + matrix[:, 2]).astype(np.float32) for polygon in polygons]
    # Words cut by the border remain text, as their visible part looks like text.
    kept = [index for index, polygon in enumerate(moved)
            if (polygon.max(axis=0) > 0).all() and (polygon.min(axis=0) < input_size - 1).all()]
    scaled_size = tuple(max(1, round(side * factor)) for side, factor in zip(size, zoom[::-1]))
    return SamplePlan(scaled_size, (0, 0, input_size, input_size), [moved[index] for index in kept],
                      ignore_tags[kept], matrix)


def _draw_centre(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: np.ndarray,
                 window: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draws the centre of a window of the given size, both (x, y) in pixels of the image."""
    extent = np.array(size[::-1], np.float64)
    words = np.flatnonzero(~ignore_tags)
    if words.size and rng.random_sample() < _WORD_SHARE:
        word = polygons[words[rng.randint(words.size)]]
        centre = word.mean(axis=0) + rng.uniform(-_WORD_OFFSET, _WORD_OFFSET, 2) * window
    else:
        centre = rng.uniform(0, 1, 2) * extent
    # Mostly inside the image; in its centre if it is smaller than the window.
    low = np.minimum(window / 2, extent / 2)
    return np.clip(centre, low - _OUTSIDE * window, extent - low + _OUTSIDE * window)


def _plan_stretched(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: np.ndarray,
                    input_size: int, min_crop_side_ratio: float, rng: np.random.RandomState,
                    ) -> Optional[SamplePlan]:
    scale = SCALES[rng.randint(len(SCALES))]
    background = rng.random_sample() < BACKGROUND_SHARE
    height, width = (max(1, round(side * scale)) for side in size)
    # The scale after rounding, (x, y): with the nominal one, text at the far border of an image of
    # odd size would lie outside.
    scale = np.array([width / size[1], height / size[0]])
    crop = draw_crop((height, width), bounds(polygons) * np.concatenate([scale, scale]),
                     background, min_crop_side_ratio, rng)
    if crop is None:
        return None
    left, top, right, bottom = crop.box
    # The crop becomes a square: its aspect ratio is not preserved.
    zoom = np.array([input_size / (right - left), input_size / (bottom - top)])
    moved = _move([polygons[index] for index in crop.kept], scale, np.array([left, top]), zoom)
    return SamplePlan((height, width), crop.box, moved, ignore_tags[crop.kept])


def _move(polygons: List[np.ndarray], scale: np.ndarray, corner: np.ndarray, zoom: np.ndarray,
          ) -> List[np.ndarray]:
    """Transforms polygons of the image to the network's input."""
    if not polygons:
        return []
    points = ((np.concatenate(polygons) * scale - corner) * zoom).astype(np.float32)
    ends = np.cumsum([len(polygon) for polygon in polygons])
    return [points[end - len(polygon):end] for polygon, end in zip(polygons, ends)]


def half_is_enough(size: Tuple[int, int], plan: SamplePlan) -> bool:
    """Returns True if a plan can be rendered from an image that was decoded to half its size.

    Args:
        size: (height, width) of the image.
        plan: drawn for it.
    """
    # Odd sides have no exact half.
    return plan.matrix is None and all(side % 2 == 0 and 2 * scaled <= side
                                       for side, scaled in zip(size, plan.scaled_size))


def render_sample(image: np.ndarray, plan: SamplePlan, input_size: int, halved: bool = False,
                  ) -> np.ndarray:
    """Renders a plan: resizes the image, crops it, and resizes the crop to the network's input.

    If the image is reduced, both steps are necessary, as the loss of detail is part of the
    augmentation. If it is enlarged, the crop is rendered directly from the original.

    Args:
        image: uint8 (H, W, 3), of the size for which the plan was drawn, or of half that size.
        plan: of plan_sample.
        input_size: as for plan_sample.
        halved: the image has half the size.

    Returns:
        uint8 (input_size, input_size, 3), channels as in the image.
    """
    rendered = _render(image, plan, input_size, halved)
    return rendered if plan.colours is None else _change_colours(rendered, plan.colours)


def _change_colours(image: np.ndarray, colours: Colours) -> np.ndarray:
    values = image.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + colours.saturation * (values - grey)
    mean = values.mean()
    values = colours.contrast * (values - mean) + mean + colours.brightness
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _render(image: np.ndarray, plan: SamplePlan, input_size: int, halved: bool) -> np.ndarray:
    if plan.matrix is not None:
        return cv2.warpAffine(image, plan.matrix, (input_size, input_size), flags=cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_CONSTANT, borderValue=_PADDING)
    height, width = plan.scaled_size
    if height > image.shape[0] and width > image.shape[1]:
        return _render_enlarged(image, plan, input_size)
    left, top, right, bottom = plan.box
    # Linear resizing to a quarter or less samples the original pixels. Pixels of the halved image
    # are averages; from them, a cubic kernel approximates that best.
    kernel = cv2.INTER_CUBIC if halved else cv2.INTER_LINEAR
    scaled = image if image.shape[:2] == (height, width) else cv2.resize(
        image, (width, height), interpolation=kernel)
    return cv2.resize(scaled[top:bottom, left:right], (input_size, input_size))


def _render_enlarged(image: np.ndarray, plan: SamplePlan, input_size: int) -> np.ndarray:
    """Enlarges and crops the image in one step."""
    size = np.array(image.shape[1::-1])
    scale = size / plan.scaled_size[::-1]
    low, high = plan.box[:2] * scale, plan.box[2:] * scale
    # Includes the neighbours needed for interpolation at the border.
    first = np.maximum(np.floor(low).astype(int) - 1, 0)
    end = np.minimum(np.ceil(high).astype(int) + 1, size)
    step = (high - low) / input_size
    # The centre of pixel i is at i + 1/2, but warpAffine has it at i.
    offset = low - first + (step - 1) / 2
    # OpenCV is twice as fast with four channels as with three.
    source = cv2.cvtColor(image[first[1]:end[1], first[0]:end[0]], cv2.COLOR_BGR2BGRA)
    enlarged = cv2.warpAffine(source, np.column_stack([np.diag(step), offset]),
                              (input_size, input_size), borderMode=cv2.BORDER_REPLICATE,
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return cv2.cvtColor(enlarged, cv2.COLOR_BGRA2BGR)
