"""Reading, writing and listing images, whatever characters their paths hold.

OpenCV's own file functions take paths through the C locale and answer a failure with None; here the
bytes are read by numpy, decoded in memory, and a failure is an ImageError that names the file. What
an image would take when decoded is known from its header, and limited, before anything is taken.
"""

import io
import os
import struct
from contextlib import contextmanager
from typing import BinaryIO, Iterator, List, Optional, Tuple

import cv2
import numpy as np

from utils.errors import PSENetError

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png')
# Decoded, that many take half a gigabyte; Pillow takes the same number for an attack.
MAX_IMAGE_PIXELS = 178956970
# A pixel of four channels of 16 bits, stored as it is, beside a generous room for metadata.
_MAX_FILE_BYTES_PER_PIXEL = 8
_MAX_METADATA_BYTES = 2 ** 26

# Annotations were drawn on the stored pixels, so the EXIF orientation must not turn them.
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_DECODE_HALF_FLAGS = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION

# Signature, the first chunk's length and name, then the sides (PNG specification, 5.2, 11.2.2).
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_HEADER = struct.Struct('>8s8xLL')
# A segment: 0xff, marker, length. A frame header goes on with the precision and the sides
# (ITU-T T.81, B.1.1.4, B.2.2); 0xc4, 0xc8 and 0xcc are not frames.
_JPEG_SEGMENT = struct.Struct('>BBH')
_JPEG_FRAME = struct.Struct('>BHH')
_JPEG_FRAMES = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}
# Markers without a length (restarts, start and end of image, fill bytes), and the start of the
# scan, before which the frame header must have come.
_JPEG_NO_SEGMENT = frozenset(range(0xd0, 0xdb)) | {0x00, 0x01, 0xff}


class ImageError(PSENetError):
    """An image file that cannot be read or written."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than one may have."""


def is_image_name(name: str) -> bool:
    """Whether a file name has one of IMAGE_EXTENSIONS, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def read_image(path: str, halved: bool = False, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Reads an image as three 8-bit channels; grey, alpha and 16-bit files are converted.

    Args:
        path: file to read.
        halved: decode it to half its size, odd sides rounded up or down, which is faster for a
            JPEG.
        max_pixels: an image whose header says that it has more is not decoded.

    Returns:
        uint8 (H, W, 3), BGR, as stored: an EXIF orientation is not applied.

    Raises:
        ImageError: the file is missing, a directory, unreadable, empty, not a decodable image, or
            too large.
    """
    with _checked(path, max_pixels) as (stream, _):
        data = np.fromfile(stream, np.uint8)
    return _decode(path, data, _DECODE_HALF_FLAGS if halved else _DECODE_FLAGS)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Decodes an image that is in memory, as read_image does one in a file.

    Args:
        data: what the file would hold.
        name: what errors call it.
        max_pixels: as for read_image.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageTooLargeError: it has too many pixels.
        ImageError: it is empty or cannot be decoded.
    """
    check_image(data, name, max_pixels)
    return _decode(name, np.frombuffer(data, np.uint8), _DECODE_FLAGS)


def check_image(data: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Tuple[int, int]:
    """Finds the size of an image in memory from its header.

    Args:
        data: as for decode_image.
        name: as for decode_image.
        max_pixels: as for read_image.

    Returns:
        (height, width) in pixels.

    Raises:
        ImageError: as decode_image; where the pixels cannot be decoded, only that finds out.
    """
    return _check(name, io.BytesIO(data), len(data), max_pixels)


def _decode(name: str, data: np.ndarray, decode_flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(data, decode_flags)
    except cv2.error as error:
        raise ImageError(f'Cannot decode the image {name}: {error.err}.') from None
    if image is None:
        raise _undecodable(name)
    return image


def read_image_size(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Tuple[int, int]:
    """Finds the size of an image from the header of the file.

    Args:
        path: file to look into; any format that read_image reads.
        max_pixels: as for read_image.

    Returns:
        (height, width) in pixels, as read_image would return them.

    Raises:
        ImageError: as read_image; where the pixels cannot be decoded, only read_image finds out.
    """
    with _checked(path, max_pixels) as (_, size):
        return size


@contextmanager
def _checked(path: str, max_pixels: int) -> Iterator[Tuple[BinaryIO, Tuple[int, int]]]:
    """Opens an image that is not too large: the stream, at its start, and (height, width)."""
    try:
        with open(path, 'rb') as stream:
            size = _check(path, stream, os.fstat(stream.fileno()).st_size, max_pixels)
            stream.seek(0)
            yield stream, size
    except OSError as error:
        raise ImageError(f'Cannot read the image {path}: {error.strerror or error}.') from None


def _check(path: str, stream: BinaryIO, num_bytes: int, max_pixels: int) -> Tuple[int, int]:
    """(height, width) from the header of an image that is not too large."""
    size = _header_size(path, stream)
    if size is None:
        raise _undecodable(path) if num_bytes else _empty(path)
    _check_pixels(path, size, max_pixels)
    _check_bytes(path, num_bytes, max_pixels)
    return size


def _empty(path: str) -> ImageError:
    return ImageError(f'The image {path} is empty (0 bytes); replace or remove it.')


def _undecodable(path: str) -> ImageError:
    return ImageError(
        f'Cannot decode the image {path}: it is truncated, or not a JPEG or PNG file.')


def _check_pixels(path: str, size: Tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageTooLargeError(
            f'The image {path} has {size[1]} x {size[0]} pixels, more than the {max_pixels} that '
            'one may have; make it smaller or, where it is what it should be, raise '
            '--max_image_pixels.')


def _check_bytes(path: str, num_bytes: int, max_pixels: int) -> None:
    if num_bytes > max_pixels * _MAX_FILE_BYTES_PER_PIXEL + _MAX_METADATA_BYTES:
        raise ImageError(f'The image {path} has {num_bytes} bytes, more than any image of '
                         f'{max_pixels} pixels; replace or remove it.')


def _header_size(path: str, stream: BinaryIO) -> Optional[Tuple[int, int]]:
    """(height, width) from the header of a file of any format; None where none is found."""
    return (_png_size(stream.read(_PNG_HEADER.size)) or _jpeg_size(stream)
            or _size_by_pillow(path, stream))


def _size_by_pillow(path: str, stream: BinaryIO) -> Optional[Tuple[int, int]]:
    """What Pillow, which knows many formats and is slower, says of the header."""
    from PIL import Image
    stream.seek(0)
    try:
        with Image.open(stream) as image:
            return image.height, image.width
    except Image.DecompressionBombError:
        raise ImageTooLargeError(
            f'The image {path} has more pixels than the {MAX_IMAGE_PIXELS} that one may have which '
            'is no plain JPEG or PNG file; make it smaller.') from None
    except Exception:  # a damaged header makes its parsers raise anything
        return None


def _png_size(header: bytes) -> Optional[Tuple[int, int]]:
    """(height, width) from the IHDR chunk that a PNG file begins with; None for other bytes."""
    if len(header) < _PNG_HEADER.size:
        return None
    signature, width, height = _PNG_HEADER.unpack(header)
    return (height, width) if signature == _PNG_SIGNATURE and height and width else None


def _jpeg_size(stream: BinaryIO) -> Optional[Tuple[int, int]]:
    """(height, width) from the frame header of a JPEG file; None where none is found."""
    stream.seek(0)
    if stream.read(2) != b'\xff\xd8':
        return None
    while True:
        segment = stream.read(_JPEG_SEGMENT.size)
        if len(segment) < _JPEG_SEGMENT.size:
            return None
        prefix, marker, length = _JPEG_SEGMENT.unpack(segment)
        if prefix != 0xff or marker in _JPEG_NO_SEGMENT or length < 2:
            return None
        if marker in _JPEG_FRAMES:
            frame = stream.read(_JPEG_FRAME.size)
            if len(frame) < _JPEG_FRAME.size:
                return None
            _, height, width = _JPEG_FRAME.unpack(frame)
            return (height, width) if height and width else None
        stream.seek(length - 2, os.SEEK_CUR)


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
        raise ImageError(f'Cannot write the image {path}: no encoder makes "{extension}" of an '
                         f'array {image.dtype} {image.shape}.') from None
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
        raise ImageError(f'The folder {folder} holds no image '
                         f'({", ".join(IMAGE_EXTENSIONS)}, in any case).')
    return [os.path.join(folder, name) for name in names]
