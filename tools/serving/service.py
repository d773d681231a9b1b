"""Service behind the server: detection, and other thresholds on stored score maps.

The network processes one image at a time, with all cores, so two at once would only
delay both. Score maps of recent images are stored, limited in bytes and number; the least recently
used are dropped first.
"""

import secrets
import threading
import time
from concurrent.futures import CancelledError
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import cv2
import numpy as np
from cachetools import LRUCache

from inference.config import DetectConfig
from inference.detector import Detector
from inference.networks import ScoreNetwork
from inference.postprocess import Geometry, Regions, Thresholds, find_regions
from tools.serving.options import MEGABYTE, ServeOptions
from utils.image_io import check_image, decode_image
from utils.utils_tool import logger

# Name of an upload in error messages: "the image that was sent has ... pixels".
UPLOAD = 'that was sent'
# Seconds between checks whether a waiting client has disconnected.
_POLL_SECONDS = 0.2


class Analysis(NamedTuple):
    """The network's output for an image, and the input of post-processing.

    score_maps: float32 (h, w, 6), 0..1, smallest kernel first.
    geometry: sizes of the image.
    read_seconds: time for decoding and resizing.
    network_seconds: time of the network.
    """

    score_maps: np.ndarray
    geometry: Geometry
    read_seconds: float
    network_seconds: float


def kernel_png(analysis: Analysis, index: int) -> bytes:
    """Encodes a score map as a grey PNG, in which 255 is a score of 1.

    Args:
        analysis: analysis of an image.
        index: 0 for the smallest kernel.
    """
    grey = np.rint(255 * analysis.score_maps[..., index]).astype(np.uint8)
    return cv2.imencode('.png', grey)[1].tobytes()


class QueueFullError(Exception):
    """The queue is full; a place should be free after ``seconds``."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds


class AbandonedError(Exception):
    """The client has disconnected."""


class Queue:
    """Runs one call at a time, in the order of arrival, and bounds the number of waiting calls."""

    def __init__(self, size: int):
        """Creates a queue in which ``size`` calls may wait while one is running."""
        self._size = size
        self._calls: List[object] = []      # the running call comes first
        self._changed = threading.Condition()
        self._closed = False
        self._last_seconds = 1.0

    @property
    def waiting(self) -> int:
        """The number of waiting calls."""
        return max(0, len(self._calls) - 1)

    def run(self, function: Callable[[], Any], abandoned: Callable[[], bool]) -> Any:
        """Waits for the other calls, then runs a function in the caller's thread.

        Args:
            function: function to call.
            abandoned: polled while the call waits; returns True if the result is not needed.

        Returns:
            The function's result.

        Raises:
            QueueFullError: too many calls are waiting.
            AbandonedError: the call was abandoned while it waited.
            CancelledError: the queue was closed.
            Exception: raised by the function.
        """
        call = object()
        with self._changed:
            if self._closed:
                raise CancelledError
            if len(self._calls) > self._size:
                raise QueueFullError(len(self._calls) * self._last_seconds)
            self._calls.append(call)
        try:
            self._wait_for_turn(call, abandoned)
            start = time.perf_counter()
            result = function()
            self._last_seconds = time.perf_counter() - start
            return result
        finally:
            with self._changed:
                self._calls.remove(call)
                self._changed.notify_all()

    def _wait_for_turn(self, call: object, abandoned: Callable[[], bool]) -> None:
        with self._changed:
            while self._calls[0] is not call:
                self._changed.wait(_POLL_SECONDS)
                if self._closed:
                    raise CancelledError
                if abandoned():
                    raise AbandonedError

    def close(self, seconds: float) -> bool:
        """Cancels waiting calls; returns True if the running one ended within the given time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._calls, seconds)


# Limits the overhead of storing many tiny images.
_MAX_KEPT = 200


class Settings(NamedTuple):
    """Settings of the service.

    model: name of the network on the page.
    config: configuration of detection, with the defaults of a request.
    options: options of the server.
    """

    model: str
    config: DetectConfig = DetectConfig()
    options: ServeOptions = ServeOptions()


class Question(NamedTuple):
    """Parameters of a request."""

    thresholds: Thresholds
    output_shape: str

    @classmethod
    def of(cls, config: DetectConfig) -> 'Question':
        """Returns the default parameters."""
        return cls(config.thresholds, config.output_shape)


def kept_analyses(max_bytes: int, max_count: int) -> LRUCache:
    """Creates a cache with both limits; it keeps the latest analysis even if that exceeds them."""
    def size(analysis: Analysis) -> int:
        return min(max(analysis.score_maps.nbytes, max_bytes // max_count), max_bytes)
    return LRUCache(max_bytes, size)


class Found(NamedTuple):
    """Result of a request.

    key: id under which the analysis is stored.
    analysis: output of the network.
    question: thresholds and shape.
    regions: regions of the image.
    post_seconds: time of post-processing.
    """

    key: str
    analysis: Analysis
    question: Question
    regions: Regions
    post_seconds: float

    def answer(self) -> Dict[str, Any]:
        """Returns the result as JSON-serialisable values."""
        width, height = self.analysis.geometry.image_size
        return {
            'id': self.key,
            'image': {'width': width, 'height': height},
            'thresholds': self.question.thresholds._asdict(),
            'output_shape': self.question.output_shape,
            'boxes': [{'points': polygon.tolist(), 'score': round(float(score), 4)}
                      for polygon, score in zip(self.regions.polygons, self.regions.scores)],
            'seconds': {'read': self.analysis.read_seconds,
                        'network': self.analysis.network_seconds,
                        'post_processing': self.post_seconds},
        }


class Service:
    """A network, its queue, and the score maps of recent images."""

    def __init__(self, network: ScoreNetwork, settings: Settings):
        """Creates the service; the caller closes the network."""
        self.settings = settings
        self.network_runs = 0
        self._detector = Detector(network, settings.config)
        self._queue = Queue(settings.options.queue_size)
        self._kept = kept_analyses(settings.options.max_kept_mb * MEGABYTE, _MAX_KEPT)
        self._lock = threading.Lock()

    def close(self, seconds: float) -> bool:
        """Cancels waiting requests; returns True if the network finished within the given time."""
        return self._queue.close(seconds)

    def detect(self, data: bytes, question: Question, abandoned: Callable[[], bool]) -> Found:
        """Runs the network on an image, and stores its output.

        Args:
            data: contents of the image file.
            question: thresholds and shape.
            abandoned: as for ``Queue.run``.

        Returns:
            The result, with a new id.

        Raises:
            PSENetError: the image cannot be decoded or has too many pixels.
            Exception: see ``Queue.run``.
        """
        check_image(data, UPLOAD, self.settings.config.max_image_pixels)
        analysis = self._queue.run(lambda: self._analyse(data), abandoned)
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = analysis
        found = self._find(key, analysis, question)
        logger.info('%d boxes in an image of %dx%d pixels; read %.3f s, network %.3f s, '
                    'post-processing %.3f s', len(found.regions.polygons),
                    *analysis.geometry.image_size, analysis.read_seconds, analysis.network_seconds,
                    found.post_seconds)
        return found

    def find_again(self, key: str, question: Question) -> Optional[Found]:
        """Finds regions with other parameters in a stored image; None if it was dropped."""
        analysis = self.kept(key)
        return analysis and self._find(key, analysis, question)

    def kept(self, key: str) -> Optional[Analysis]:
        """Returns the analysis stored under an id; None if it was dropped."""
        with self._lock:
            return self._kept.get(key)

    def health(self) -> Dict[str, Any]:
        """Returns the state of the server."""
        with self._lock:
            kept = list(self._kept.values())
        return {'status': 'ok', 'model': self.settings.model, 'network_runs': self.network_runs,
                'waiting': self._queue.waiting, 'kept_images': len(kept),
                'kept_bytes': sum(analysis.score_maps.nbytes for analysis in kept)}

    def _analyse(self, data: bytes) -> Analysis:
        start = time.perf_counter()
        image_bgr = decode_image(data, UPLOAD, self.settings.config.max_image_pixels)
        prepared = self._detector.prepare(image_bgr)
        read = time.perf_counter()
        score_maps = np.ascontiguousarray(self._detector.score_maps(prepared.image_rgb))
        self.network_runs += 1
        return Analysis(score_maps, prepared.geometry, read - start, time.perf_counter() - read)

    def _find(self, key: str, analysis: Analysis, question: Question) -> Found:
        start = time.perf_counter()
        config = self.settings.config._replace(output_shape=question.output_shape)
        regions = find_regions(analysis.score_maps, analysis.geometry, question.thresholds,
                               config.tolerance)
        return Found(key, analysis, question, regions, time.perf_counter() - start)
