"""Reading, writing and listing images, whatever characters their paths hold.

OpenCV's own file functions take paths through the C locale and answer a failure with None; here the
bytes are read by numpy, decoded in memory, and a failure is an ImageError that names the file.
"""

import os
from typing import List

import cv2
import numpy as np

from utils.errors import PSENetError

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png')

# Annotations were drawn on the stored pixels, so the EXIF orientation must not turn them.
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class ImageError(PSENetError):
    """An image file that cannot be read or written."""


def is_image_name(name: str) -> bool:
    """Whether a file name has one of IMAGE_EXTENSIONS, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def read_image(path: str) -> np.ndarray:
    """Reads an image as three 8-bit channels; grey, alpha and 16-bit files are converted.

    Args:
        path: file to read.

    Returns:
        uint8 (H, W, 3), BGR, as stored: an EXIF orientation is not applied.

    Raises:
        ImageError: the file is missing, a directory, unreadable, empty or not a decodable image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f'Cannot read the image {path}: {error.strerror or error}.') from None
    if not data.size:
        raise ImageError(f'The image {path} is empty (0 bytes); replace or remove it.')
    try:
        image = cv2.imdecode(data, _DECODE_FLAGS)
    except cv2.error as error:
        raise ImageError(f'Cannot decode the image {path}: {error.err}.') from None
    if image is None:
        raise ImageError(
            f'Cannot decode the image {path}: it is truncated, or not a JPEG or PNG file.')
    return image


def write_image(path: str, image: np.ndarray) -> None:
    """Writes an image in the format that the extension of the path names.

    Args:
        path: file to write; its folder must exist.
        image: uint8 (H, W, 3), BGR, or (H, W), grey.

    Raises:
        ImageError: the format is unknown or the file cannot be written.
    """
    extension = os.path.splitext(path)[1]
    try:
        encoded = cv2.imencode(extension, image)[1]
    except cv2.error:
        raise ImageError(f'Cannot write the image {path}: no encoder makes "{extension}" of an array '
                         f'{image.dtype} {image.shape}.') from None
    try:
        encoded.tofile(path)
    except OSError as error:
        raise ImageError(f'Cannot write the image {path}: {error.strerror or error}.') from None


def list_images(folder: str) -> List[str]:
    """Lists the image files that stand directly in a folder.

    Args:
        folder: folder to look into; sub-folders are not entered.

    Returns:
        Paths (the folder joined with each name), sorted by name; at least one.

    Raises:
        ImageError: the folder is missing, unreadable, or holds no image.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder)
                       if is_image_name(entry.name) and entry.is_file())
    except OSError as error:
        raise ImageError(f'Cannot list the folder {folder}: {error.strerror or error}.') from None
    if not names:
        raise ImageError(f'The folder {folder} holds no image ({", ".join(IMAGE_EXTENSIONS)}, in any '
                         'case).')
    return [os.path.join(folder, name) for name in names]
