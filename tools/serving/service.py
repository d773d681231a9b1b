"""What the server does, whatever asks for it: detection, and other thresholds on what is kept.

The network has a thread of its own: TensorFlow takes all cores for one image, so two at once would
only make both late. Score maps of the last images are kept, within limits of bytes and number; the
longest unused go first.
"""

import secrets
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, Callable, Dict, NamedTuple, Optional, Set

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

# What errors call an upload: "The image that was sent has ... pixels".
UPLOAD = 'that was sent'
# How often somebody who waits is looked for.
_LOOK_SECONDS = 0.2


class Analysis(NamedTuple):
    """What the network says of an image, and what post-processing needs besides.

    score_maps: float32 (h, w, 6), 0..1, smallest kernel first.
    geometry: sizes of the image.
    read_seconds: what decoding and resizing took.
    network_seconds: what the network took.
    """

    score_maps: np.ndarray
    geometry: Geometry
    read_seconds: float
    network_seconds: float


def kernel_png(analysis: Analysis, index: int) -> bytes:
    """Draws one score map.

    Args:
        analysis: of an image.
        index: 0 for the smallest kernel.

    Returns:
        A grey PNG of the map's own size; 255 stands for a score of 1.
    """
    grey = np.rint(255 * analysis.score_maps[..., index]).astype(np.uint8)
    return cv2.imencode('.png', grey)[1].tobytes()


class QueueFullError(Exception):
    """As many images wait as may; ``seconds`` is after how long a place should be free."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


class Queue:
    """A thread that calls functions in the order of their arrival, and a bound on how many wait."""

    def __init__(self, size: int):
        """Starts the thread; ``size`` calls may wait while one is at work."""
        self._size = size
        self._thread = ThreadPoolExecutor(1, 'network')
        self._unfinished: Set[Future] = set()
        self._changed = threading.Condition()
        self._last_seconds = 1.0

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return sum(not future.running() for future in self._unfinished.copy())

    def run(self, function: Callable[[], Any], abandoned: Callable[[], bool]) -> Any:
        """Has a function called when its turn comes, and waits for what it returns.

        Args:
            function: called in the thread.
            abandoned: asked from time to time whether the answer is still wanted.

        Returns:
            What the function returned.

        Raises:
            QueueFullError: at once, when too many wait.
            AbandonedError: the answer is not wanted; a call that waited is dropped.
            CancelledError: the thread is ending.
            Exception: what the function raised.
        """
        future: Future = Future()
        with self._changed:
            if len(self._unfinished) > self._size:
                raise QueueFullError(len(self._unfinished) * self._last_seconds)
            try:
                self._thread.submit(self._work, future, function)
            except RuntimeError:  # shut down
                raise CancelledError from None
            self._unfinished.add(future)
        while not wait([future], _LOOK_SECONDS).done:
            if abandoned():
                self.drop(future)
                raise AbandonedError
        return future.result()

    def drop(self, future: Future) -> None:
        """Leaves a call out, unless its turn has come."""
        with self._changed:
            if future.cancel():
                future.set_running_or_notify_cancel()
                self._finish(future)

    def close(self, seconds: float) -> bool:
        """Drops what waits; returns whether the call at work ended within so many seconds."""
        self._thread.shutdown(wait=False)
        for future in self._unfinished.copy():
            self.drop(future)
        with self._changed:
            return self._changed.wait_for(lambda: not self._unfinished, seconds)

    def _work(self, future: Future, function: Callable[[], Any]) -> None:
        with self._changed:
            if future.cancelled():
                return
            future.set_running_or_notify_cancel()
        start = time.perf_counter()
        try:
            answer, error = function(), None
        except BaseException as raised:  # the one who waits gets it
            answer, error = None, raised
        self._last_seconds = time.perf_counter() - start
        # The next request of whoever gets this answer finds the place free.
        self._finish(future)
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def _finish(self, future: Future) -> None:
        with self._changed:
            self._unfinished.discard(future)
            self._changed.notify_all()


# Clients that send tiny images would fill the memory with what surrounds their maps.
_MAX_KEPT = 200


class Settings(NamedTuple):
    """How to detect, and within which limits.

    model: what the page calls the network.
    config: of detection: sizes, and what a request does not say.
    options: of the server.
    """

    model: str
    config: DetectConfig = DetectConfig()
    options: ServeOptions = ServeOptions()


class Question(NamedTuple):
    """What a request may choose."""

    thresholds: Thresholds
    output_shape: str

    @classmethod
    def of(cls, config: DetectConfig) -> 'Question':
        """What a request that chooses nothing gets."""
        return cls(config.thresholds, config.output_shape)


def kept_analyses(max_bytes: int, max_count: int) -> LRUCache:
    """Keeps analyses within both limits; the latest is kept even where it alone exceeds them."""
    def size(analysis: Analysis) -> int:
        return min(max(analysis.score_maps.nbytes, max_bytes // max_count), max_bytes)
    return LRUCache(max_bytes, size)


class Found(NamedTuple):
    """What was found in an image, and how.

    key: id under which the analysis is kept.
    analysis: what the network said.
    question: thresholds and shape.
    regions: of the image.
    post_seconds: what post-processing took.
    """

    key: str
    analysis: Analysis
    question: Question
    regions: Regions
    post_seconds: float

    def answer(self) -> Dict[str, Any]:
        """What programs get."""
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
    """A network, its queue, and the score maps of the last images."""

    def __init__(self, network: ScoreNetwork, settings: Settings):
        """Takes a network, which stays the caller's to close."""
        self.settings = settings
        self.network_runs = 0
        self._detector = Detector(network, settings.config)
        self._queue = Queue(settings.options.queue_size)
        self._kept = kept_analyses(settings.options.max_kept_mb * MEGABYTE, _MAX_KEPT)
        self._lock = threading.Lock()

    def close(self, seconds: float) -> bool:
        """Ends the network's thread; returns whether that was done within so many seconds."""
        return self._queue.close(seconds)

    def detect(self, data: bytes, question: Question, abandoned: Callable[[], bool]) -> Found:
        """Runs the network on an image, and keeps what it says.

        Args:
            data: the image's file.
            question: thresholds and shape.
            abandoned: as for ``Queue.run``.

        Returns:
            The boxes, under a new id.

        Raises:
            PSENetError: the image cannot be decoded or has too many pixels.
            Exception: as ``Queue.run``.
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
        """Boxes at other thresholds of an image that is kept; None when it has been dropped."""
        analysis = self.kept(key)
        return analysis and self._find(key, analysis, question)

    def kept(self, key: str) -> Optional[Analysis]:
        """What is kept under an id; None where there is nothing any more."""
        with self._lock:
            return self._kept.get(key)

    def health(self) -> Dict[str, Any]:
        """Figures about the server itself."""
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
