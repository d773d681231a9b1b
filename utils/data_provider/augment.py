"""What part of an image a training sample shows, at which size, and in which colours.

The reference cuts along free rows and columns and stretches the cut to a square. ``scaled`` crops
show a square window of the image instead, enlarged or reduced as a whole, turned and mirrored.

The draw needs the size of the image and its polygons, no pixels, so a draw that has to be given up
costs no decoding. Randomness arrives as a RandomState: the same state draws the same sample.
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
# Of scaled crops: how far the aspect may change, and how many show a word, and where in them it is.
_ASPECT_RANGE = (0.9, 1.1)
_WORD_SHARE = 0.9
_WORD_OFFSET = 0.42
# How far a window may reach beyond the image, as a share of its side.
_OUTSIDE = 0.1
# Of 255, and as shares.
# Blue, green, red: what is beyond the image; zero to the network.
_PADDING = cfg.MEAN_RGB[::-1]
_BRIGHTNESS, _CONTRAST, _SATURATION = 0.125 * 255, 0.3, 0.5


class Augmentation(NamedTuple):
    """How samples vary; flips and rotations are for scaled crops."""

    crop: str = 'stretched'                         # one of CROPS
    scales: Tuple[float, float] = (0.7, 2.3)        # of the image, drawn log-uniformly
    flip: bool = False                              # mirror half of the crops
    max_rotation: float = 0.0                       # degrees, to either side
    colour_jitter: bool = False                     # brightness, contrast and saturation


REFERENCE = Augmentation()


class Colours(NamedTuple):
    """A change of colours: pixels become contrast * (pixel - mean) + mean + brightness."""

    brightness: float
    contrast: float
    saturation: float       # 0 would leave greys


class Crop(NamedTuple):
    """A part of an image, and which regions lie inside of it."""

    box: Tuple[int, int, int, int]  # left, top, right, bottom in pixels, the latter two exclusive
    kept: np.ndarray                # int (K,), indices of polygons


class SamplePlan(NamedTuple):
    """How to make a training sample of an image."""

    scaled_size: Tuple[int, int]    # (height, width) that the image is resized to
    box: Tuple[int, int, int, int]  # the crop of that, as in Crop
    polygons: List[np.ndarray]      # float32 (P, 2) each, x and y in pixels of the network's input
    ignore_tags: np.ndarray         # bool (K,)
    matrix: Optional[np.ndarray] = None     # float64 (2, 3): of a scaled crop, image to input
    colours: Optional[Colours] = None


def draw_crop(size: Tuple[int, int], boxes: np.ndarray, background: bool, min_side_ratio: float,
              rng: np.random.RandomState) -> Optional[Crop]:
    """Draws a crop whose borders cut no region.

    A text crop is the first of fifty tries that holds a region, or else the whole image. A
    background crop is the first try of sufficient size.

    Args:
        size: (height, width) of the image.
        boxes: float (N, 4), the regions' smallest x, smallest y, largest x, largest y.
        background: draw a crop without regions.
        min_side_ratio: a crop whose side is shorter than this share of the image's is rejected.
        rng: where the tries come from.

    Returns:
        The crop; None when this image has no text, or when the background crop is not to be had.
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
    """The tries that are large enough, int (T, 4); the whole image where there is no choice."""
    height, width = size
    columns = _free_positions(width, boxes[:, 0], boxes[:, 2])
    rows = _free_positions(height, boxes[:, 1], boxes[:, 3])
    if not columns.size or not rows.size:
        return np.array([[0, 0, width, height]])
    left, right = _draw_intervals(columns, width, rng)
    top, bottom = _draw_intervals(rows, height, rng)
    # At least two pixels: borders that both fell into one padding leave a line of one pixel, which
    # may lie across a region.
    large = ((right - left >= max(2, min_side_ratio * width))
             & (bottom - top >= max(2, min_side_ratio * height)))
    return np.stack([left, top, right, bottom], axis=1)[large]


def _free_positions(length: int, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Pixel positions along an axis, its padding included, that no region touches."""
    # The padding makes the image's own border a frequent crop border.
    pad = length // 10
    free = np.ones(length + 2 * pad, np.bool_)
    # As Python's numbers, which slice faster than NumPy's.
    for low, high in np.rint([lows, highs]).astype(int).T.tolist():
        free[low + pad:high + pad + 1] = False
    return free.nonzero()[0] - pad


def _draw_intervals(positions: np.ndarray, length: int, rng: np.random.RandomState,
                    ) -> Tuple[np.ndarray, np.ndarray]:
    """First positions and last ones plus one, inside of the image: int (CROP_TRIES,) each."""
    drawn = positions[rng.randint(positions.size, size=(2, CROP_TRIES))]
    # Not np.clip, which takes five times as long for so few numbers.
    first, last = np.minimum(np.maximum(np.sort(drawn, axis=0), 0), length - 1)
    return first, last + 1


def _lies_inside(boxes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Whether all of box n lies on pixels of crop t: bool (T, N).

    A pixel at position p covers [p, p + 1): reducing an image leaves regions at its far border
    between the last position and the border.
    """
    crops = crops[:, np.newaxis]
    return ((boxes[:, :2] >= crops[..., :2]) & (boxes[:, 2:] < crops[..., 2:])).all(axis=-1)


def plan_sample(size: Tuple[int, int], polygons: Sequence[np.ndarray],  # noqa: PLR0913
                ignore_tags: np.ndarray,
                input_size: int, min_crop_side_ratio: float, rng: np.random.RandomState,
                augmentation: Augmentation = REFERENCE) -> Optional[SamplePlan]:
    """Draws a scale, the kind of the crop, the crop, and its colours.

    Args:
        size: (height, width) of the image.
        polygons: float32 (P, 2) each, x and y in pixels of the image, inside of it.
        ignore_tags: bool (N,).
        input_size: side of the network's input in pixels.
        min_crop_side_ratio: as min_side_ratio of draw_crop.
        rng: where the draws come from.
        augmentation: how samples vary.

    Returns:
        The plan; None when this image does not have a crop of the kind that was drawn.
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
    # Cut words stay text: what is seen of them looks like text.
    kept = [index for index, polygon in enumerate(moved)
            if (polygon.max(axis=0) > 0).all() and (polygon.min(axis=0) < input_size - 1).all()]
    scaled_size = tuple(max(1, round(side * factor)) for side, factor in zip(size, zoom[::-1]))
    return SamplePlan(scaled_size, (0, 0, input_size, input_size), [moved[index] for index in kept],
                      ignore_tags[kept], matrix)


def _draw_centre(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: np.ndarray,
                 window: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """The centre of a window of such a size, both (x, y) in pixels of the image."""
    extent = np.array(size[::-1], np.float64)
    words = np.flatnonzero(~ignore_tags)
    if words.size and rng.random_sample() < _WORD_SHARE:
        word = polygons[words[rng.randint(words.size)]]
        centre = word.mean(axis=0) + rng.uniform(-_WORD_OFFSET, _WORD_OFFSET, 2) * window
    else:
        centre = rng.uniform(0, 1, 2) * extent
    # Mostly inside of the image; in the middle of one that is smaller than the window.
    low = np.minimum(window / 2, extent / 2)
    return np.clip(centre, low - _OUTSIDE * window, extent - low + _OUTSIDE * window)


def _plan_stretched(size: Tuple[int, int], polygons: Sequence[np.ndarray], ignore_tags: np.ndarray,
                    input_size: int, min_crop_side_ratio: float, rng: np.random.RandomState,
                    ) -> Optional[SamplePlan]:
    scale = SCALES[rng.randint(len(SCALES))]
    background = rng.random_sample() < BACKGROUND_SHARE
    height, width = (max(1, round(side * scale)) for side in size)
    # The scale that whole pixels leave, (x, y): with the nominal one, text at the far border of an
    # image of odd size would lie outside.
    scale = np.array([width / size[1], height / size[0]])
    crop = draw_crop((height, width), bounds(polygons) * np.concatenate([scale, scale]),
                     background, min_crop_side_ratio, rng)
    if crop is None:
        return None
    left, top, right, bottom = crop.box
    # The crop becomes a square: the aspect is not kept.
    zoom = np.array([input_size / (right - left), input_size / (bottom - top)])
    moved = _move([polygons[index] for index in crop.kept], scale, np.array([left, top]), zoom)
    return SamplePlan((height, width), crop.box, moved, ignore_tags[crop.kept])


def _move(polygons: List[np.ndarray], scale: np.ndarray, corner: np.ndarray, zoom: np.ndarray,
          ) -> List[np.ndarray]:
    """Polygons of the image, as they lie in the network's input."""
    if not polygons:
        return []
    points = ((np.concatenate(polygons) * scale - corner) * zoom).astype(np.float32)
    ends = np.cumsum([len(polygon) for polygon in polygons])
    return [points[end - len(polygon):end] for polygon, end in zip(polygons, ends)]


def half_is_enough(size: Tuple[int, int], plan: SamplePlan) -> bool:
    """Whether a plan can be rendered from an image that was decoded to half its size.

    Args:
        size: (height, width) of the image.
        plan: drawn for it.
    """
    # Odd sides have no exact half.
    return plan.matrix is None and all(side % 2 == 0 and 2 * scaled <= side
                                       for side, scaled in zip(size, plan.scaled_size))


def render_sample(image: np.ndarray, plan: SamplePlan, input_size: int, halved: bool = False,
                  ) -> np.ndarray:
    """Makes the picture that a plan speaks of: the image resized, cut, and resized once more.

    An image that is to be reduced is reduced, for what that costs in detail is the augmentation.
    To enlarge one that will be cut would be of no use: the crop comes straight from the source.

    Args:
        image: uint8 (H, W, 3), of the size that the plan was drawn for, or of half of that.
        plan: from plan_sample.
        input_size: the same as there.
        halved: whether the image is of half the size.

    Returns:
        uint8 (input_size, input_size, 3), channels as in the image.
    """
    picture = _render(image, plan, input_size, halved)
    return picture if plan.colours is None else _recoloured(picture, plan.colours)


def _recoloured(picture: np.ndarray, colours: Colours) -> np.ndarray:
    values = picture.astype(np.float32)
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
    # To a quarter and below, resizing an image looks at every other pixel of it. Of the pixels of
    # its half, which are means of two, a cubic kernel comes nearest to that.
    kernel = cv2.INTER_CUBIC if halved else cv2.INTER_LINEAR
    scaled = image if image.shape[:2] == (height, width) else cv2.resize(
        image, (width, height), interpolation=kernel)
    return cv2.resize(scaled[top:bottom, left:right], (input_size, input_size))


def _render_enlarged(image: np.ndarray, plan: SamplePlan, input_size: int) -> np.ndarray:
    """What enlarging all of the image and then cutting it would show, in one step."""
    size = np.array(image.shape[1::-1])
    scale = size / plan.scaled_size[::-1]
    low, high = plan.box[:2] * scale, plan.box[2:] * scale
    # With the neighbours that are needed between the outermost pixels' centres and the border.
    first = np.maximum(np.floor(low).astype(int) - 1, 0)
    end = np.minimum(np.ceil(high).astype(int) + 1, size)
    step = (high - low) / input_size
    # Pixel i of the picture has its centre at i + 1/2, which is i where warpAffine counts from.
    offset = low - first + (step - 1) / 2
    # OpenCV is twice as fast with four channels as with three.
    source = cv2.cvtColor(image[first[1]:end[1], first[0]:end[0]], cv2.COLOR_BGR2BGRA)
    picture = cv2.warpAffine(source, np.column_stack([np.diag(step), offset]),
                             (input_size, input_size), borderMode=cv2.BORDER_REPLICATE,
                             flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)
