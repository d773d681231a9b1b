"""Training samples in the straightforward order: the oracle of what the readers make faster.

The whole image is decoded, brought to the drawn scale, cut and brought to the input's size; all
maps are drawn at full size, and every fourth pixel of them is taken. Nothing here is shared with
the readers but the draw of a crop, where there is but one way.
"""

import cv2
import numpy as np
import pyclipper

from utils.data_provider.augment import BACKGROUND_SHARE, SCALES, draw_crop
from utils.utils_tool import cfg


def make_plan(size, polygons, ignore_tags, input_size, min_crop_side_ratio, rng):
    """(scaled_size, box, polygons, ignore_tags) of a sample; None without the wanted crop."""
    scale = SCALES[rng.randint(len(SCALES))]
    background = rng.random_sample() < BACKGROUND_SHARE
    height, width = (max(1, round(side * scale)) for side in size)
    scale = np.array([width / size[1], height / size[0]])
    boxes = [np.concatenate([polygon.min(axis=0), polygon.max(axis=0)]) for polygon in polygons]
    boxes = np.array(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2)
    crop = draw_crop((height, width), boxes, background, min_crop_side_ratio, rng)
    if crop is None:
        return None
    left, top, right, bottom = crop.box
    zoom = np.array([input_size / (right - left), input_size / (bottom - top)])
    moved = [((polygons[index] * scale - (left, top)) * zoom).astype(np.float32)
             for index in crop.kept]
    return (height, width), crop.box, moved, ignore_tags[crop.kept]


def render(image, scaled_size, box, input_size):
    """uint8 (input_size, input_size, 3): all of the image resized, cut, and resized."""
    height, width = scaled_size
    left, top, right, bottom = box
    scaled = cv2.resize(image, (width, height))
    return cv2.resize(scaled[top:bottom, left:right], (input_size, input_size))


def draw_targets(input_size, polygons, ignore_tags):
    """seg_maps (S/4, S/4, 6) and training mask (S/4, S/4, 1), uint8: every fourth pixel."""
    seg_maps = np.zeros((cfg.NUM_KERNELS, input_size, input_size), np.uint8)
    mask = np.ones((input_size, input_size), np.uint8)
    for polygon, ignored in zip(polygons, ignore_tags):
        kernels = [] if ignored else _shrink(polygon)
        if not kernels or not all(kernels):
            cv2.fillPoly(mask, [polygon.astype(np.int32)], 0)
            continue
        for plane, parts in zip(seg_maps, kernels):
            cv2.fillPoly(plane, parts, 1)
    return seg_maps.transpose(1, 2, 0)[::4, ::4], mask[::4, ::4, np.newaxis]


def _shrink(polygon):
    """The parts that are left at each ratio."""
    points = np.asarray(polygon, np.float64)
    length = float(np.hypot(*(points - np.roll(points, -1, axis=0)).T).sum())
    if length == 0:
        return []
    x, y = points.astype(np.int64).T
    area = abs(int(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    shrunk = []
    for ratio in cfg.KERNEL_SCALES:
        offset = pyclipper.PyclipperOffset()
        offset.AddPath(polygon.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
        paths = offset.Execute(-area * (1 - ratio ** 2) / length)
        shrunk.append([np.array(path, np.int32) for path in paths])
    return shrunk


def make_sample(samples, options, number, position):
    """(index, scaled_size, picture, seg_maps, training_mask) of a position of a global batch."""
    rng = np.random.RandomState([options.seed, number, position])
    draw = number * options.world_size * options.batch_size + position
    epoch, place = divmod(draw, len(samples))
    index = np.random.RandomState([options.seed, epoch]).permutation(len(samples))[place]
    while True:
        sample = samples[index]
        plan = make_plan(sample.size, sample.polygons, sample.ignore_tags, options.input_size,
                         options.min_crop_side_ratio, rng)
        if plan is not None:
            break
        index = rng.randint(len(samples))
    scaled_size, box, polygons, ignore_tags = plan
    image = cv2.imread(sample.image_path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    picture = render(image, scaled_size, box, options.input_size)
    return (index, scaled_size, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB),
            *draw_targets(options.input_size, polygons, ignore_tags))
