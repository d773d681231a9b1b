"""What the server does, whatever asks for it: detection, and other thresholds on what is kept.

The network has a thread of its own: TensorFlow takes all cores for one image, so two at once would
only make both late. Score maps of the last images are kept, within limits of bytes and number; the
longest unused go first.
"""

import secrets
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future, wait
from typing import Any, Callable, Deque, Dict, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from inference.networks import ScoreNetwork
from inference.postprocess import detect, to_original
from inference.preprocess import Size, prepare_image
from inference.thresholds import Thresholds
from tools.serving.options import MEGABYTE, ServeOptions
from utils.image_io import MAX_IMAGE_PIXELS, check_image, decode_image
from utils.utils_tool import logger

# What errors call an upload: "The image that was sent has ... pixels".
UPLOAD = 'that was sent'


class Analysis(NamedTuple):
    """What the network says of an image, and what post-processing needs besides.

    score_maps: float32 (h, w, 6), 0..1, smallest kernel first.
    input_size: (width, height) of the network's input.
    ratios: (x, y), that size divided by that of the image.
    image_size: (width, height) of the image.
    read_seconds: what decoding and resizing took.
    network_seconds: what the network took.
    """

    score_maps: np.ndarray
    input_size: Size
    ratios: Tuple[float, float]
    image_size: Size
    read_seconds: float
    network_seconds: float


def analyse(network: ScoreNetwork, data: bytes, max_side_len: int,
            max_image_pixels: int) -> Analysis:
    """Runs the network on an image.

    Args:
        network: any engine's.
        data: the image's file.
        max_side_len: longer images are shrunk to this many pixels.
        max_image_pixels: an image with more is refused.

    Returns:
        The score maps and what belongs to them.

    Raises:
        PSENetError: the image cannot be decoded, or takes too much memory.
    """
    start = time.perf_counter()
    image_bgr = decode_image(data, UPLOAD, max_image_pixels)
    prepared = prepare_image(image_bgr, max_side_len)
    read = time.perf_counter()
    score_maps = np.ascontiguousarray(network.score_maps(prepared.image_rgb))
    return Analysis(score_maps, prepared.image_rgb.shape[1::-1], prepared.ratios,
                    image_bgr.shape[1::-1], read - start, time.perf_counter() - read)


def find_boxes(analysis: Analysis, thresholds: Thresholds) -> np.ndarray:
    """Turns score maps into boxes.

    Args:
        analysis: of an image. Unchanged.
        thresholds: of post-processing.

    Returns:
        int32 (N, 4, 2), x, y in pixels of the image, clockwise.
    """
    quads = detect(analysis.score_maps, analysis.input_size, thresholds.seg_map_thresh,
                   thresholds.min_area_thresh)
    return to_original(quads, analysis.ratios, analysis.image_size, thresholds.min_box_side)


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


class Store:
    """Keeps analyses under ids that nobody can guess; threads may share it."""

    def __init__(self, max_bytes: int, max_count: int):
        """Takes the limits; the latest analysis is kept even where it alone exceeds them."""
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._kept: OrderedDict[str, Analysis] = OrderedDict()
        self._lock = threading.Lock()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, analysis: Analysis) -> str:
        """Keeps an analysis; returns its id."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = analysis
            self.num_bytes += analysis.score_maps.nbytes
            while len(self._kept) > 1 and (
                    self.num_bytes > self._max_bytes or len(self._kept) > self._max_count):
                _, dropped = self._kept.popitem(last=False)
                self.num_bytes -= dropped.score_maps.nbytes
        return key

    def get(self, key: str) -> Optional[Analysis]:
        """The analysis of an id, which counts as used; None where there is none any more."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)


# How often somebody who waits is looked for.
_LOOK_SECONDS = 0.2

Job = Tuple[Future, Callable[[], Any]]


class QueueFullError(Exception):
    """As many calls wait as may; ``seconds`` is after how long a place should be free."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


class ClosedError(Exception):
    """The thread is ending."""


class Jobs:
    """A thread that calls functions in the order of their arrival."""

    def __init__(self, queue_size: int):
        """Starts the thread.

        Args:
            queue_size: how many calls may wait while one is at work; 0 for none.
        """
        self._queue_size = queue_size
        self._waiting: Deque[Job] = deque()
        self._at_work = False
        self._closed = False
        self._last_seconds = 1.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name='network', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

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
            ClosedError: the thread is ending.
            Exception: what the function raised.
        """
        future = self._submit(function)
        while not wait([future], _LOOK_SECONDS).done:
            if abandoned():
                self._drop(future)
                raise AbandonedError
        return future.result()

    def close(self, seconds: float) -> bool:
        """Drops what waits and ends the thread after the call that is at work.

        Args:
            seconds: how long to wait for that.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._closed = True
            for future, _ in self._waiting:
                future.set_exception(ClosedError())
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _submit(self, function: Callable[[], Any]) -> Future:
        with self._changed:
            if self._closed:
                raise ClosedError
            before = len(self._waiting) + self._at_work
            if before > self._queue_size:
                raise QueueFullError(before * self._last_seconds)
            future: Future = Future()
            self._waiting.append((future, function))
            self._changed.notify_all()
            return future

    def _drop(self, future: Future) -> None:
        with self._changed:
            self._waiting = deque(job for job in self._waiting if job[0] is not future)

    def _work(self) -> None:
        job = self._next()
        while job is not None:
            self._call(*job)
            job = self._next()

    def _next(self) -> Optional[Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._at_work = True
            return self._waiting.popleft()

    def _call(self, future: Future, function: Callable[[], Any]) -> None:
        start = time.perf_counter()
        try:
            answer, error = function(), None
        except BaseException as raised:  # the one who waits gets it
            answer, error = None, raised
        with self._changed:
            self._at_work = False
            self._last_seconds = time.perf_counter() - start
        # The next request of whoever gets this answer finds the place free.
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


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
        """Boxes at other thresholds of an image that is kept; None when it has been dropped."""
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
