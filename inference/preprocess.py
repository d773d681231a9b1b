"""Image -> what the network takes: RGB, a limited size, both sides multiples of 32.

Some devices compile the network for each size of its input, so that there are few of them. An image
then is resized as for any other device, and padded on the right and at the bottom to the next size;
the padding's scores are cut off again. The network sees some 130 pixels far: further from a padded
edge the scores are what they are without padding, within 0.001.
"""

import re
from typing import NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from inference.postprocess import Geometry
from utils.errors import PSENetError
from utils.utils_tool import cfg

Size = Tuple[int, int]  # width, height in pixels
# Longer images are shrunk to it by default.
MAX_SIDE_LEN = 2400

_SIZE = re.compile(r'([0-9]+)x([0-9]+)')


def parse_sizes(text: str) -> Tuple[Size, ...]:
    """Reads ``--npu_input_sizes``.

    Args:
        text: ``<width>x<height>,...``, each once.

    Returns:
        (width, height) of each, the smallest area first.

    Raises:
        PSENetError: it has another form, or a side that the network cannot take.
    """
    matches = [_SIZE.fullmatch(part.strip()) for part in text.split(',')]
    sizes = {tuple(map(int, match.groups())) for match in matches if match}
    usable = all(side and side % cfg.SIDE_MULTIPLE == 0 for size in sizes for side in size)
    if len(sizes) != len(matches) or not usable:
        raise PSENetError(
            f'--npu_input_sizes={text} must be sizes such as 1280x736,736x1280 (width x height), '
            f'each once, all sides multiples of {cfg.SIDE_MULTIPLE}')
    return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))


def next_size(size: Size, sizes: Sequence[Size]) -> Optional[Size]:
    """The first of the sizes, smallest first, that holds ``size``; None where none does."""
    return next((one for one in sizes if one[0] >= size[0] and one[1] >= size[1]), None)


def largest_scale(size: Size, sizes: Sequence[Size]) -> float:
    """The factor, aspect kept, at which ``size`` fills the one of the sizes that suits it best."""
    return max(min(one[0] / size[0], one[1] / size[1]) for one in sizes)


def pad_image(image_rgb: np.ndarray, size: Size) -> np.ndarray:
    """Pads an image on the right and at the bottom with its outermost pixels.

    Of black, the mean colour and a mirrored image none changes the scores near the edge as little.

    Args:
        image_rgb: uint8 (H, W, 3), RGB. Unchanged.
        size: (width, height), at least that of the image.

    Returns:
        uint8 (height, width, 3); the image itself where it has this size.
    """
    height, width = image_rgb.shape[:2]
    if (width, height) == size:
        return image_rgb
    return cv2.copyMakeBorder(image_rgb, 0, size[1] - height, 0, size[0] - width,
                              cv2.BORDER_REPLICATE)


class NetworkInput(NamedTuple):
    """An image made ready, and how to find the way back.

    image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.
    geometry: its size and that of the original image.
    """

    image_rgb: np.ndarray
    geometry: Geometry


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
        The network's input and both sizes.
    """
    height, width = image_bgr.shape[:2]
    size = network_size((width, height), max_side_len, sizes)
    resized = cv2.resize(image_bgr, size, interpolation=cv2.INTER_LINEAR)
    image_rgb = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return NetworkInput(image_rgb, Geometry(size, (width, height)))
