"""The few sizes that the network's input may have on a device that compiles it for each of them.

An image is resized as for any other device. Then it is padded on the right and at the bottom to the
next size, and the padding's scores are cut off again. The network sees some 130 pixels far: further
from a padded edge the scores are what they are without padding, within 0.001.
"""

import re
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from utils.errors import PSENetError
from utils.utils_tool import cfg

Size = Tuple[int, int]  # width, height in pixels

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
