"""An uploaded image -> score maps that can be kept; score maps -> boxes, as eval.py finds them."""

import time
from typing import NamedTuple, Tuple

import cv2
import numpy as np

from inference.networks import ScoreNetwork
from inference.postprocess import detect, to_original
from inference.preprocess import Size, prepare_image
from inference.thresholds import Thresholds
from utils.image_io import decode_image

# What errors call an upload: "The image that was sent has ... pixels".
UPLOAD = 'that was sent'


class Analysis(NamedTuple):
    """What the network says of an image, and what post-processing needs besides.

    score_maps: float32 (h, w, 6), 0..1, smallest kernel first.
    input_size: (width, height) of the network's input.
    ratios: (x, y), that size divided by that of the image.
    image_size: (width, height) of the image.
    read_seconds: what decoding and resizing took.
    network_seconds: what the network took.
    """

    score_maps: np.ndarray
    input_size: Size
    ratios: Tuple[float, float]
    image_size: Size
    read_seconds: float
    network_seconds: float


def analyse(network: ScoreNetwork, data: bytes, max_side_len: int,
            max_image_pixels: int) -> Analysis:
    """Runs the network on an image.

    Args:
        network: any engine's.
        data: the image's file.
        max_side_len: longer images are shrunk to this many pixels.
        max_image_pixels: an image with more is refused.

    Returns:
        The score maps and what belongs to them.

    Raises:
        PSENetError: the image cannot be decoded, or takes too much memory.
    """
    start = time.perf_counter()
    image_bgr = decode_image(data, UPLOAD, max_image_pixels)
    prepared = prepare_image(image_bgr, max_side_len)
    read = time.perf_counter()
    score_maps = np.ascontiguousarray(network.score_maps(prepared.image_rgb))
    return Analysis(score_maps, prepared.image_rgb.shape[1::-1], prepared.ratios,
                    image_bgr.shape[1::-1], read - start, time.perf_counter() - read)


def find_boxes(analysis: Analysis, thresholds: Thresholds) -> np.ndarray:
    """Turns score maps into boxes.

    Args:
        analysis: of an image. Unchanged.
        thresholds: of post-processing.

    Returns:
        int32 (N, 4, 2), x, y in pixels of the image, clockwise.
    """
    quads = detect(analysis.score_maps, analysis.input_size, thresholds.seg_map_thresh,
                   thresholds.min_area_thresh)
    return to_original(quads, analysis.ratios, analysis.image_size, thresholds.min_box_side)


def kernel_png(analysis: Analysis, index: int) -> bytes:
    """Draws one score map.

    Args:
        analysis: of an image.
        index: 0 for the smallest kernel.

    Returns:
        A grey PNG of the map's own size; 255 stands for a score of 1.
    """
    grey = np.rint(255 * analysis.score_maps[..., index]).astype(np.uint8)
    return cv2.imencode('.png', grey)[1].tobytes()
