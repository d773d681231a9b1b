"""Reading, writing and listing images, with any characters in their paths.

OpenCV's own file functions convert paths to the C locale and return None on failure. Here files are
read by NumPy and decoded in memory, and a failure is an ImageError that names the file. The number
of pixels is read from the header and limited before any memory is allocated.
"""

import contextlib
import io
import os
from contextlib import contextmanager
from typing import BinaryIO, Iterable, Iterator, List, NamedTuple, Tuple

import cv2
import numpy as np

from utils.errors import PSENetError
from utils.utils_tool import logger

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.jpe', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff',
                    '.gif', '.jp2', '.pbm', '.pgm', '.ppm', '.pnm')
# Image formats that cannot be read; files with these extensions are named in a warning.
_UNREADABLE_EXTENSIONS = ('.heic', '.heif', '.avif', '.jxl', '.svg', '.psd', '.pdf', '.eps', '.ico',
                          '.raw', '.dng', '.cr2', '.nef', '.arw', '.exr', '.hdr', '.tga')
# Half a gigabyte when decoded; above this, Pillow assumes a decompression bomb.
MAX_IMAGE_PIXELS = 178956970
# Four uncompressed channels of 16 bits.
_MAX_FILE_BYTES_PER_PIXEL = 8
_MAX_METADATA_BYTES = 2 ** 26

# Most annotations refer to the stored pixels, so the EXIF orientation is applied only on request.
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_DECODE_HALF_FLAGS = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION

_EXIF_ORIENTATION = 0x112
_UPRIGHT = 1
# EXIF orientation (EXIF 2.32, 4.6.4) -> (transpose?, axes to reverse afterwards).
_TURNS = {1: (False, ()), 2: (False, (1,)), 3: (False, (0, 1)), 4: (False, (0,)),
          5: (True, ()), 6: (True, (1,)), 7: (True, (0, 1)), 8: (True, (0,))}


class ImageError(PSENetError):
    """An image file that cannot be read or written."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than allowed."""


class ImageHeader(NamedTuple):
    """The header of an image file."""

    size: Tuple[int, int]       # (height, width) in stored pixels
    orientation: int            # EXIF orientation, 1..8; 1 is upright
    is_transparent: bool        # pixels may be transparent

    def size_as_read(self, apply_exif_orientation: bool) -> Tuple[int, int]:
        """Returns the (height, width) of read_image's result."""
        is_turned = apply_exif_orientation and _TURNS[self.orientation][0]
        return self.size[::-1] if is_turned else self.size


def is_image_name(name: str) -> bool:
    """Returns True if a file name has one of IMAGE_EXTENSIONS, in any case, and is not hidden."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Returns True if a file name begins with a dot, like the files that macOS adds."""
    return name.startswith('.')


def read_image(path: str, halved: bool = False, max_pixels: int = MAX_IMAGE_PIXELS,
               apply_exif_orientation: bool = False) -> np.ndarray:
    """Reads an image as three 8-bit channels; greyscale and 16-bit images are converted.

    Transparent pixels are blended onto white.

    Args:
        path: file to read.
        halved: decode to half the size, odd sides rounded up or down; faster for a JPEG.
        max_pixels: maximum of pixels according to the header.
        apply_exif_orientation: rotate and flip the image to its EXIF orientation.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageError: the file is missing, a directory, unreadable, empty, not a decodable image, or
            too large.
    """
    with _checked(path, max_pixels) as (stream, header):
        data = np.fromfile(stream, np.uint8)
    return _decode(path, data, header, halved, apply_exif_orientation)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Decodes an image in memory, like read_image.

    Args:
        data: contents of an image file.
        name: for error messages.
        max_pixels: as for read_image.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageTooLargeError: it has too many pixels.
        ImageError: it is empty or cannot be decoded.
    """
    header = _check(name, io.BytesIO(data), len(data), max_pixels)
    return _decode(name, np.frombuffer(data, np.uint8), header)


def check_image(data: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Tuple[int, int]:
    """Reads the size of an image in memory from its header.

    Args:
        data: as for decode_image.
        name: as for decode_image.
        max_pixels: as for read_image.

    Returns:
        (height, width) in pixels.

    Raises:
        ImageError: as decode_image, except for damaged pixels, which are not decoded here.
    """
    return _check(name, io.BytesIO(data), len(data), max_pixels).size


def read_image_header(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """Reads the header of an image file.

    Args:
        path: file in any format of read_image.
        max_pixels: as for read_image.

    Returns:
        Size, orientation and transparency.

    Raises:
        ImageError: as read_image, except for damaged pixels, which are not decoded here.
    """
    with _checked(path, max_pixels) as (_, header):
        return header


def read_image_size(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Tuple[int, int]:
    """Reads the size of an image from the header of the file.

    Args, Raises: as read_image_header.

    Returns:
        (height, width) in stored pixels.
    """
    return read_image_header(path, max_pixels).size


def _decode(name: str, data: np.ndarray, header: ImageHeader, halved: bool = False,
            apply_exif_orientation: bool = False) -> np.ndarray:
    try:
        image = None
        if not header.is_transparent:
            image = cv2.imdecode(data, _DECODE_HALF_FLAGS if halved else _DECODE_FLAGS)
        if image is None:
            # OpenCV ignores transparency, and not every build of it supports every format.
            image = _decode_by_pillow(data, halved)
    except cv2.error as error:
        raise ImageError(f'cannot decode the image {name}: {error.err}') from None
    except Exception:  # with damaged pixels, Pillow's decoders may raise anything
        raise _undecodable(name) from None
    if not halved and image.shape[:2] != header.size:
        raise _undecodable(name)
    return _turn(image, header.orientation) if apply_exif_orientation else image


def _decode_by_pillow(data: np.ndarray, halved: bool) -> np.ndarray:
    """Decodes the first frame of any format, blended onto white: uint8 (H, W, 3), BGR."""
    with _opened_by_pillow(io.BytesIO(data.tobytes())) as image:
        rgba = np.asarray(image.convert('RGBA'))
    alpha = rgba[..., 3:] / np.float32(255)
    rgb = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if not halved:
        return bgr
    height, width = bgr.shape[:2]
    return cv2.resize(bgr, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    transposed, reversed_axes = _TURNS[orientation]
    turned = image.transpose(1, 0, 2) if transposed else image
    return np.ascontiguousarray(np.flip(turned, reversed_axes) if reversed_axes else turned)


@contextmanager
def _checked(path: str, max_pixels: int) -> Iterator[Tuple[BinaryIO, ImageHeader]]:
    """Opens an image after checking its size; yields the stream, at its start, and the header."""
    try:
        with open(path, 'rb') as stream:
            header = _check(path, stream, os.fstat(stream.fileno()).st_size, max_pixels)
            stream.seek(0)
            yield stream, header
    except OSError as error:
        raise ImageError(f'cannot read the image {path}: {error.strerror or error}') from None


def _check(path: str, stream: BinaryIO, num_bytes: int, max_pixels: int) -> ImageHeader:
    """Reads the header of an image and checks its size."""
    if not num_bytes:
        raise ImageError(f'the image {path} is empty (0 bytes); replace or remove it')
    header = _read_header(path, stream)
    height, width = header.size
    if height * width > max_pixels:
        raise ImageTooLargeError(
            f'the image {path} has {width} x {height} pixels, more than the maximum of '
            f'{max_pixels}; resize it, or raise --max_image_pixels')
    if num_bytes > max_pixels * _MAX_FILE_BYTES_PER_PIXEL + _MAX_METADATA_BYTES:
        raise ImageError(f'the image {path} has {num_bytes} bytes, more than any image of '
                         f'{max_pixels} pixels needs; replace or remove it')
    return header


def _read_header(path: str, stream: BinaryIO) -> ImageHeader:
    try:
        with _opened_by_pillow(stream) as image:
            size = image.height, image.width
            transparent = image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in (
                image.info)
            orientation = _UPRIGHT
            # With damaged metadata, Pillow may raise anything although the pixels are intact.
            with contextlib.suppress(Exception):
                orientation = image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT)
    except Exception:  # with a damaged header, Pillow may raise anything
        raise _undecodable(path) from None
    return ImageHeader(size, orientation if orientation in _TURNS else _UPRIGHT, transparent)


@contextmanager
def _opened_by_pillow(stream: BinaryIO) -> Iterator['Image.Image']:  # noqa: F821 - imported below
    from PIL import Image
    # Pillow's own limit is global to the process; _check limits sizes instead.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(stream) as image:
        yield image


def _undecodable(path: str) -> ImageError:
    return ImageError(
        f'cannot decode the image {path}: it is truncated, or its format is not supported')


def write_image(path: str, image: np.ndarray) -> None:
    """Writes an image in the format given by the extension of the path.

    Args:
        path: file to write; its directory must exist.
        image: uint8 (H, W, 3), BGR, or (H, W), grey.

    Raises:
        ImageError: the format is unknown or the file cannot be written.
    """
    extension = os.path.splitext(path)[1]
    try:
        encoded = cv2.imencode(extension, image)[1]
    except cv2.error:
        raise ImageError(f'cannot write the image {path}: there is no encoder of "{extension}" for '
                         f'an array {image.dtype} {image.shape}') from None
    try:
        encoded.tofile(path)
    except OSError as error:
        raise ImageError(f'cannot write the image {path}: {error.strerror or error}') from None


def warn_of_other_formats(directory: str, names: Iterable[str]) -> None:
    """Logs a warning that names the files of unsupported image formats."""
    others = [name for name in names
              if os.path.splitext(name)[1].lower() in _UNREADABLE_EXTENSIONS]
    if others:
        shown = ', '.join(others[:10]) + (', ...' if others[10:] else '')
        logger.warning('%d files in %s have unsupported image formats and are ignored: %s',
                       len(others), directory, shown)


def can_write(extension: str) -> bool:
    """Returns True if write_image supports an extension such as '.jpg'."""
    return cv2.haveImageWriter('image' + extension)


def list_images(path: str) -> List[str]:
    """Lists the image files of a directory, without its subdirectories.

    Unsupported formats are named in a warning. Hidden files are ignored. Broken links are listed,
    so that reading them gives an error.

    Args:
        path: directory, or one image.

    Returns:
        Paths (the directory joined with each name), sorted by name; at least one.

    Raises:
        ImageError: the path is missing, unreadable, or contains no image.
    """
    if os.path.isfile(path):
        return [path]
    try:
        names = sorted(entry.name for entry in os.scandir(path)
                       if not is_hidden(entry.name) and not entry.is_dir())
    except OSError as error:
        raise ImageError(f'cannot list the directory {path}: {error.strerror or error}') from None
    warn_of_other_formats(path, names)
    names = [name for name in names if is_image_name(name)]
    if not names:
        raise ImageError(f'the directory {path} contains no image '
                         f'({", ".join(IMAGE_EXTENSIONS)}, in any case)')
    return [os.path.join(path, name) for name in names]
