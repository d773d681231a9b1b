"""What the server does, whatever asks for it: detection, and other thresholds on what is kept."""

import time
from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np

from inference.networks import ScoreNetwork
from inference.thresholds import Thresholds
from tools.serving.analysis import UPLOAD, Analysis, analyse, find_boxes
from tools.serving.jobs import Jobs
from tools.serving.options import MEGABYTE, ServeOptions
from tools.serving.store import Store
from utils.image_io import MAX_IMAGE_PIXELS, check_image
from utils.utils_tool import logger

# Clients that send tiny images would fill the memory with what surrounds their maps.
_MAX_KEPT = 200


class Settings(NamedTuple):
    """How to detect, and within which limits.

    model: what the page calls the network.
    thresholds: of post-processing, where a request has none.
    max_side_len: longer images are shrunk to this many pixels.
    max_image_pixels: images with more are refused.
    options: of the server.
    """

    model: str
    thresholds: Thresholds = Thresholds()
    max_side_len: int = 2400
    max_image_pixels: int = MAX_IMAGE_PIXELS
    options: ServeOptions = ServeOptions()


class Found(NamedTuple):
    """What was found in an image, and how.

    key: id under which the analysis is kept.
    analysis: what the network said.
    thresholds: of post-processing.
    boxes: int32 (N, 4, 2), x, y in pixels of the image, clockwise.
    post_seconds: what post-processing took.
    """

    key: str
    analysis: Analysis
    thresholds: Thresholds
    boxes: np.ndarray
    post_seconds: float

    def answer(self) -> Dict[str, Any]:
        """What programs get."""
        width, height = self.analysis.image_size
        return {
            'id': self.key,
            'image': {'width': width, 'height': height},
            'thresholds': self.thresholds._asdict(),
            'boxes': [{'points': box} for box in self.boxes.tolist()],
            'seconds': {'read': self.analysis.read_seconds,
                        'network': self.analysis.network_seconds,
                        'post_processing': self.post_seconds},
        }


class Service:
    """A network, its queue, and the score maps of the last images."""

    def __init__(self, network: ScoreNetwork, settings: Settings):
        """Takes a network, which stays the caller's to close."""
        self.settings = settings
        self.network_runs = 0
        self._network = network
        self._jobs = Jobs(settings.options.queue_size)
        self._store = Store(settings.options.max_kept_mb * MEGABYTE, _MAX_KEPT)

    def close(self, seconds: float) -> bool:
        """Ends the network's thread; returns whether that was done within so many seconds."""
        return self._jobs.close(seconds)

    def detect(self, data: bytes, thresholds: Thresholds, abandoned: Callable[[], bool]) -> Found:
        """Runs the network on an image, and keeps what it says.

        Args:
            data: the image's file.
            thresholds: of post-processing.
            abandoned: as for ``Jobs.run``.

        Returns:
            The boxes, under a new id.

        Raises:
            PSENetError: the image cannot be decoded or has too many pixels.
            Exception: as ``Jobs.run``.
        """
        check_image(data, UPLOAD, self.settings.max_image_pixels)
        analysis = self._jobs.run(lambda: self._analyse(data), abandoned)
        found = self._find(self._store.put(analysis), analysis, thresholds)
        logger.info('%d boxes in an image of %dx%d pixels; read %.3f s, network %.3f s, '
                    'post-processing %.3f s', len(found.boxes), *analysis.image_size,
                    analysis.read_seconds, analysis.network_seconds, found.post_seconds)
        return found

    def find_again(self, key: str, thresholds: Thresholds) -> Optional[Found]:
        """Boxes at other thresholds of an image that is kept; None where it is no more."""
        analysis = self._store.get(key)
        return analysis and self._find(key, analysis, thresholds)

    def kept(self, key: str) -> Optional[Analysis]:
        """What is kept under an id; None where there is nothing any more."""
        return self._store.get(key)

    def health(self) -> Dict[str, Any]:
        """Figures about the server itself."""
        return {'status': 'ok', 'model': self.settings.model, 'network_runs': self.network_runs,
                'waiting': self._jobs.waiting, 'kept_images': len(self._store),
                'kept_bytes': self._store.num_bytes}

    def _analyse(self, data: bytes) -> Analysis:
        analysis = analyse(self._network, data, self.settings.max_side_len,
                           self.settings.max_image_pixels)
        self.network_runs += 1
        return analysis

    @staticmethod
    def _find(key: str, analysis: Analysis, thresholds: Thresholds) -> Found:
        start = time.perf_counter()
        boxes = find_boxes(analysis, thresholds)
        return Found(key, analysis, thresholds, boxes, time.perf_counter() - start)
