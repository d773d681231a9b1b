"""Detection in a directory of images; writes result files and reports unreadable images.

The network takes most of the time, so its thread does nothing else: another thread prefetches
images, and a third one finds, draws and writes the boxes.
"""

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
)

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from inference.config import DetectConfig
from inference.detector import Detector, NetworkInput
from inference.results import write_result
from utils.errors import PSENetError
from utils.image_io import (
    ImageError,
    can_write,
    list_images,
    read_image,
    write_image,
)
from utils.utils_tool import logger
from utils.visualize import draw_quads

Item = TypeVar('Item')
Made = TypeVar('Made')
# Items in flight between the loop and each thread; images may be large, and two suffice.
_DEPTH = 2


def prefetch(function: Callable[[Item], Made], items: Iterable[Item],
             depth: int = _DEPTH) -> Iterator[Made]:
    """Applies a function to items in a thread that runs up to ``depth`` items ahead.

    Closing the iterator (``contextlib.closing``) ends the thread after its current item.

    Args:
        function: called in the thread for each item.
        items: iterated over in the consumer's thread.
        depth: maximum number of items ahead.

    Yields:
        The function's results, in the order of the items.

    Raises:
        Exception: raised by the function.
    """
    pending: Deque[Future] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            for item in items:
                pending.append(thread.submit(function, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class WriteBehind:
    """Calls a function in a thread, in order.

    A context manager: at the end all pending calls are completed, even if the body raises; after an
    error in the function there are no further calls.
    """

    def __init__(self, function: Callable[..., None], depth: int = _DEPTH):
        """Starts the thread.

        Args:
            function: function to call.
            depth: number of calls that may be pending when ``put`` returns.
        """
        self._function = function
        self._depth = depth
        self._failed = False
        self._pending: Deque[Future] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def put(self, *arguments: Any) -> None:
        """Queues a call with the arguments; waits while too many calls are pending.

        Raises:
            Exception: raised by the function in an earlier call.
        """
        self._pending.append(self._thread.submit(self._call, *arguments))
        self._take_finished(self._depth)

    def _call(self, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            self._function(*arguments)
        except BaseException:
            self._failed = True
            raise

    def _take_finished(self, left: int) -> None:
        while len(self._pending) > left or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def __enter__(self) -> 'WriteBehind':
        return self

    def __exit__(self, *exc_info: Any) -> None:
        try:
            self._take_finished(0)
        finally:
            self._thread.shutdown()


# Path of an image -> uint8 (H, W, 3), BGR; raises ImageError.
Read = Callable[[str], np.ndarray]
_FACTOR_TO_WARN_OF = 0.5
_NO_BOXES = np.zeros((0, 4, 2), np.int32)


class Summary(NamedTuple):
    """Counts of a run (``images`` includes ``unreadable`` ones) and its times in seconds."""

    images: int = 0
    unreadable: int = 0
    boxes: int = 0
    net_seconds: float = 0.0
    post_seconds: float = 0.0
    total_seconds: float = 0.0

    def line(self) -> str:
        """Formats the summary: total seconds and seconds per image."""
        times = [('network', self.net_seconds), ('post-processing', self.post_seconds),
                 ('total', self.total_seconds)]
        texts = [f'{name} {seconds:.2f} s ({seconds / max(self.images, 1):.4f} s/image)'
                 for name, seconds in times]
        return f'images: {self.images}, boxes: {self.boxes}, {", ".join(texts)}'


def image_reader(config: DetectConfig) -> Read:
    """Returns a function that reads images with the configuration's limits and orientation."""
    return partial(read_image, max_pixels=config.max_image_pixels,
                   apply_exif_orientation=config.apply_exif_orientation)


def images_by_stem(directory: str) -> Dict[str, str]:
    """Lists the images of a directory.

    Args:
        directory: contains the images; or one image.

    Returns:
        Name without extension, used for result files -> path; sorted.

    Raises:
        PSENetError: the directory is missing or has no image, or two images have the same name.
    """
    images: Dict[str, str] = {}
    for path in list_images(directory):
        stem = os.path.splitext(os.path.basename(path))[0]
        if stem in images:
            raise PSENetError(f'{images[stem]} and {path} have the same result file '
                              f'res_{stem}.txt; rename one of them')
        images[stem] = path
    return images


class FolderImage(NamedTuple):
    """An image, or the error that occurred when reading it."""

    stem: str
    path: str
    image_bgr: Optional[np.ndarray] = None
    prepared: Optional[NetworkInput] = None
    error: Optional[ImageError] = None


def detect_folder(
    detector: Detector,
    images: Dict[str, str],
    output_dir: str,
    write_images: bool = True,
    read: Read = read_image,
    write_scores: bool = False,
) -> Summary:
    """Writes ``res_<stem>.txt`` for every image and, optionally, the image with its boxes.

    An unreadable image is logged, counted, and gets an empty result file. If the run ends early,
    the results of the images processed so far are written.

    Args:
        detector: the detector; its network is only used in the caller's thread.
        images: stem -> path, from ``images_by_stem``.
        output_dir: an existing directory.
        write_images: whether to write ``res_<image name>``, the image with boxes; as PNG if the
            image's format cannot be written.
        read: reads an image file; see ``image_reader``.
        write_scores: whether each line ends with the region's score.

    Returns:
        Counts and times.

    Raises:
        PSENetError: a file cannot be written, or the detector failed.
    """
    start = time.perf_counter()
    results = _Results(detector, output_dir, write_images, write_scores)
    net_seconds = run_network(detector, images, results.write, read)
    return results.summary._replace(images=len(images), net_seconds=net_seconds,
                                    total_seconds=time.perf_counter() - start)


def run_network(
    detector: Detector,
    images: Dict[str, str],
    consume: Callable[[FolderImage, Optional[np.ndarray]], None],
    read: Read = read_image,
) -> float:
    """Runs the network on every image; unreadable images are logged.

    Args:
        detector: the detector; its network is only used in the caller's thread.
        images: stem -> path, from ``images_by_stem``.
        consume: called in a thread for each image with the score maps, float32 (h, w, 6), or None
            for an unreadable image; its exceptions end the run.
        read: reads an image file; see ``image_reader``.

    Returns:
        Total time of the network in seconds.

    Raises:
        PSENetError: the detector failed.
    """
    net_seconds = 0.0
    reading = prefetch(lambda item: _read(detector, *item, read), images.items())
    with logging_redirect_tqdm([logger]), WriteBehind(consume) as behind, closing(reading):
        for image in tqdm(reading, desc='detecting', unit='image', total=len(images)):
            score_maps = None
            if image.error:
                logger.error('%s', image.error)
            else:
                before = time.perf_counter()
                score_maps = detector.score_maps(image.prepared.image_rgb)
                net_seconds += time.perf_counter() - before
            behind.put(image, score_maps)
    return net_seconds


def _read(detector: Detector, stem: str, path: str, read: Read) -> FolderImage:
    try:
        image_bgr = read(path)
    except ImageError as error:
        return FolderImage(stem, path, error=error)
    prepared = detector.prepare(image_bgr)
    geometry = prepared.geometry
    if min(geometry.ratios) < _FACTOR_TO_WARN_OF:
        logger.warning('%s of %dx%d pixels is shrunk to %.2f of its size, %dx%d, which loses small '
                       'text; --tile or a larger --max_side_len avoids that', path,
                       *geometry.image_size, min(geometry.ratios), *geometry.input_size)
    return FolderImage(stem, path, image_bgr, prepared)


def write_drawn(output_dir: str, path: str, image_bgr: np.ndarray,
                polygons: Sequence[np.ndarray]) -> None:
    """Writes an image with its regions drawn.

    Args:
        output_dir: an existing directory for ``res_<image name>``, a PNG file if the image's format
            cannot be written.
        path: path of the image.
        image_bgr: uint8 (H, W, 3), BGR. Unchanged.
        polygons: int32 (P, 2) each, x, y.

    Raises:
        PSENetError: the file cannot be written.
    """
    name = 'res_' + os.path.basename(path)
    if not can_write(os.path.splitext(name)[1]):
        name += '.png'
    write_image(os.path.join(output_dir, name), draw_quads(image_bgr, polygons))


class _Results:
    """Finds, writes and counts the regions of each image."""

    def __init__(self, detector: Detector, output_dir: str, write_images: bool,
                 write_scores: bool):
        self._detector = detector
        self._write_scores = write_scores
        self._output_dir = output_dir
        self._write_images = write_images
        self.summary = Summary()

    def write(self, image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        """Writes the result files of an image; an empty one if the image is unreadable."""
        if score_maps is None:
            write_result(self._output_dir, image.stem, _NO_BOXES)
            self._count(unreadable=1)
            return
        start = time.perf_counter()
        regions = self._detector.find_regions(score_maps, image.prepared.geometry)
        self._count(boxes=len(regions.polygons), post_seconds=time.perf_counter() - start)
        write_result(self._output_dir, image.stem, regions.polygons,
                     regions.scores if self._write_scores else None)
        if self._write_images:
            write_drawn(self._output_dir, image.path, image.image_bgr, regions.polygons)

    def _count(self, **amounts: float) -> None:
        self.summary = self.summary._replace(**{
            name: getattr(self.summary, name) + amount for name, amount in amounts.items()})
