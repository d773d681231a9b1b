"""A network that takes light for text, and the server around it; no TensorFlow."""

import http.client
import io
import threading
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from inference.networks import ScoreNetwork
from tools.serving.options import ServeOptions
from tools.serving.service import Service, Settings
from utils.utils_tool import cfg

# Rectangles on a dark ground: grey value, then left, top, width and height in pixels.
TEXTS = ((250, 32, 32, 128, 64), (220, 192, 64, 96, 80), (180, 64, 160, 160, 72))


class LightNetwork(ScoreNetwork):
    """Scores are how light an image is; each kernel is eroded by one pixel less than the last."""

    def __init__(self):
        self.runs = 0
        self.entered = threading.Event()
        self.may_run = threading.Event()
        self.may_run.set()

    def score_maps(self, image_rgb):
        self.entered.set()
        assert self.may_run.wait(60)
        self.runs += 1
        height, width = image_rgb.shape[:2]
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        small = cv2.resize(grey, (width // cfg.STRIDE, height // cfg.STRIDE),
                           interpolation=cv2.INTER_AREA)
        return np.stack([cv2.erode(small, np.ones((side, side), np.uint8))
                         for side in range(2 * cfg.NUM_KERNELS - 1, 0, -2)], axis=2)

    def close(self):
        pass


def draw_texts(width=320, height=256):
    """uint8 (height, width, 3), BGR: TEXTS, of which 1 is found at 0.9, 2 at 0.8, 3 at 0.5."""
    image = np.full((height, width, 3), 20, np.uint8)
    for value, left, top, wide, high in TEXTS:
        image[top:top + high, left:left + wide] = value
    return image


def encoded(extension='.png', **size):
    """The bytes of an image file with TEXTS."""
    return cv2.imencode(extension, draw_texts(**size))[1].tobytes()


def fetch(port, path, data=None):
    """Status, headers and body of an answer of this machine; data is posted."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request('GET' if data is None else 'POST', path, data)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


class Stage(NamedTuple):
    """A service with its network, and a client of the application in this process."""

    network: LightNetwork
    service: Service
    client: object

    def detect(self, data=None, query='', **arguments):
        """Posts an image as a form."""
        form = {'image': (io.BytesIO(encoded() if data is None else data), 'a.png')}
        return self.client.post(f'/detect{query}', data=form, **arguments)


@contextmanager
def open_stage(settings=None, **options):
    """A stage with settings of its own."""
    pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')
    from tools.serving.app import create_app

    network = LightNetwork()
    settings = settings or Settings('light')
    service = Service(network, settings._replace(options=ServeOptions(**options)))
    try:
        yield Stage(network, service, create_app(service).test_client())
    finally:
        network.may_run.set()
        assert service.close(60)


@contextmanager
def listening(stage):
    """The same application behind a port of this machine; gives the server."""
    from tools.serving.server import Server

    server = Server('127.0.0.1', 0, stage.client.application)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        stage.network.may_run.set()
        server.shutdown()
        thread.join()
