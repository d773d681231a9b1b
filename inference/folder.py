"""A folder of images -> a folder of result files, whatever the state of single images."""

import os
import time
from typing import TYPE_CHECKING, Callable, Dict, NamedTuple

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from inference.results import write_result
from utils.errors import PSENetError
from utils.image_io import ImageError, list_images, read_image, write_image
from utils.utils_tool import logger
from utils.visualize import draw_quads

if TYPE_CHECKING:
    from inference.detector import Detection

_NO_BOXES = np.zeros((0, 4, 2), np.int32)


class Summary(NamedTuple):
    """What a run did: images, unreadable ones among them, boxes, and where the seconds went."""

    images: int = 0
    unreadable: int = 0
    boxes: int = 0
    net_seconds: float = 0.0
    post_seconds: float = 0.0
    total_seconds: float = 0.0

    def line(self) -> str:
        """The report for people, seconds in all and per image."""
        times = [('network', self.net_seconds), ('post-processing', self.post_seconds),
                 ('total', self.total_seconds)]
        texts = [f'{name} {seconds:.2f} s ({seconds / max(self.images, 1):.4f} s/image)'
                 for name, seconds in times]
        return f'images: {self.images}, boxes: {self.boxes}, {", ".join(texts)}'


def images_by_stem(folder: str) -> Dict[str, str]:
    """Finds the images of a folder.

    Args:
        folder: folder with images.

    Returns:
        The images' names without extension, which name their results, to their paths; sorted.

    Raises:
        PSENetError: the folder is missing or holds no image, or two images share a name.
    """
    images: Dict[str, str] = {}
    for path in list_images(folder):
        stem = os.path.splitext(os.path.basename(path))[0]
        if stem in images:
            raise PSENetError(f'{images[stem]} and {path} would share the result file '
                              f'res_{stem}.txt; rename one of them')
        images[stem] = path
    return images


def detect_folder(
    detect: Callable[[np.ndarray], 'Detection'],
    images: Dict[str, str],
    output_dir: str,
    write_images: bool = True,
) -> Summary:
    """Writes ``res_<stem>.txt`` for every image and, beside it, the image with its boxes drawn.

    An image that cannot be read is logged and counted, and gets an empty result file.

    Args:
        detect: finds the boxes in a uint8 (H, W, 3) BGR image; ``Detector.detect``.
        images: stem -> path, as of ``images_by_stem``.
        output_dir: an existing folder.
        write_images: whether to write ``res_<image name>``, the image with boxes.

    Returns:
        Counts and times.

    Raises:
        PSENetError: a file cannot be written, or the detector cannot go on.
    """
    start = time.perf_counter()
    summary = Summary(images=len(images))
    with logging_redirect_tqdm([logger]):
        for stem, path in tqdm(images.items(), desc='detecting', unit='image'):
            try:
                image = read_image(path)
            except ImageError as error:
                logger.error('%s', error)
                write_result(output_dir, stem, _NO_BOXES)
                summary = summary._replace(unreadable=summary.unreadable + 1)
                continue
            found = detect(image)
            write_result(output_dir, stem, found.boxes)
            if write_images:
                drawn = draw_quads(image, found.boxes)
                write_image(os.path.join(output_dir, 'res_' + os.path.basename(path)), drawn)
            summary = _added(summary, found)
    return summary._replace(total_seconds=time.perf_counter() - start)


def _added(summary: Summary, found: 'Detection') -> Summary:
    return summary._replace(
        boxes=summary.boxes + len(found.boxes),
        net_seconds=summary.net_seconds + found.net_seconds,
        post_seconds=summary.post_seconds + found.post_seconds,
    )
