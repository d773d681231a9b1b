"""Image -> what the network takes: RGB, a limited size, both sides multiples of 32."""

from typing import NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from inference.input_sizes import Size, largest_scale, next_size
from utils.utils_tool import cfg


class NetworkInput(NamedTuple):
    """An image made ready, and how to find the way back.

    image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.
    ratios: (x, y), its size divided by that of the original image.
    """

    image_rgb: np.ndarray
    ratios: Tuple[float, float]


def network_size(
    image_size: Tuple[int, int], max_side_len: int, sizes: Sequence[Size] = ()
) -> Tuple[int, int]:
    """Chooses the size at which an image goes into the network.

    Args:
        image_size: (width, height) of the original image.
        max_side_len: longer images are shrunk to this, their aspect kept.
        sizes: where the sizes of the input are fixed, all of them. An image that exceeds each is
            shrunk, its aspect kept, by as little as any of them allows.

    Returns:
        (width, height); each side is then rounded up to a multiple of 32, so it may exceed
        max_side_len by up to 31, and the aspect may change a little.
    """
    size = _scaled(image_size, min(1.0, max_side_len / max(image_size)))
    if not sizes or next_size(size, sizes):
        return size
    return _scaled(image_size, largest_scale(image_size, sizes))


def _scaled(image_size: Tuple[int, int], scale: float) -> Tuple[int, int]:
    multiple = cfg.SIDE_MULTIPLE
    width, height = (-(-max(1, int(side * scale)) // multiple) * multiple for side in image_size)
    return width, height


def prepare_image(
    image_bgr: np.ndarray, max_side_len: int, sizes: Sequence[Size] = ()
) -> NetworkInput:
    """Resizes an image bilinearly to its network size and turns it to RGB.

    Args:
        image_bgr: uint8 (H, W, 3), BGR, not empty. Unchanged.
        max_side_len: as for ``network_size``.
        sizes: as for ``network_size``.

    Returns:
        The network's input and the resize ratios.
    """
    height, width = image_bgr.shape[:2]
    size = network_size((width, height), max_side_len, sizes)
    resized = cv2.resize(image_bgr, size, interpolation=cv2.INTER_LINEAR)
    image_rgb = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return NetworkInput(image_rgb, (size[0] / width, size[1] / height))
