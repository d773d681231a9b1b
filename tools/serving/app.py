"""The addresses of the server and what they answer; ``openapi.json`` describes them."""

import functools
import json
import os
from typing import Callable, List, Tuple

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import NotFound

from inference.results import format_result
from inference.thresholds import Thresholds
from tools.serving.analysis import Analysis, kernel_png
from tools.serving.errors import answer_errors
from tools.serving.guards import guard
from tools.serving.inputs import has_left, read_image_bytes, thresholds_of
from tools.serving.service import Found, Service
from utils.image_io import list_images
from utils.utils_tool import cfg

MAX_SAMPLES = 8
_OPENAPI = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'openapi.json')
_DROPPED = ('nothing is kept under this id, as other images came after it or the server was '
            'started anew; upload the image again')


def create_app(service: Service) -> Flask:
    """Makes the application.

    Args:
        service: does the work.

    Returns:
        A WSGI application that threads may share.

    Raises:
        PSENetError: the folder of samples cannot be used.
    """
    app = Flask(__name__)
    app.json.sort_keys = False
    guard(app, service.settings.options.host)
    answer_errors(app)
    for method, address, view in _Views(service).routes():
        app.add_url_rule(address, view.__name__, view, methods=[method],
                         provide_automatic_options=False)
    return app


def _text(name: str) -> str:
    """A file's name as text that a page can hold; its bytes that are no UTF-8 come as escapes."""
    return name.encode('utf-8', 'backslashreplace').decode('utf-8')


class _Views:
    """What the addresses answer."""

    def __init__(self, service: Service):
        self._service = service
        folder = service.settings.options.samples
        self._samples: List[str] = list_images(folder)[:MAX_SAMPLES] if folder else []

    def routes(self) -> Tuple[Tuple[str, str, Callable], ...]:
        """Method, address and function of each; Flask serves ``/static/`` by itself."""
        kept = '/detections/<key>'
        return (
            ('GET', '/', self.page),
            ('GET', '/health', self.health),
            ('GET', '/openapi.json', self.openapi),
            ('GET', '/samples/<int:number>', self.sample),
            ('POST', '/detect', self.detect),
            ('GET', kept, self.detection),
            ('GET', f'{kept}/result.txt', self.result),
            ('GET', f'{kept}/kernels/<int:number>.png', self.kernel),
        )

    def page(self) -> str:
        """The page for people."""
        return render_template(
            'index.html', settings=self._service.settings, scales=cfg.KERNEL_SCALES,
            model=_text(self._service.settings.model),
            samples=[_text(os.path.basename(path)) for path in self._samples])

    def health(self) -> Response:
        """Whether the server works, and how much it has to do."""
        return jsonify(self._service.health())

    @staticmethod
    def openapi() -> Response:
        """The description of all this."""
        with open(_OPENAPI, encoding='utf-8') as file:
            return jsonify(json.load(file))

    def sample(self, number: int) -> Response:
        """An image to try; clients name it by number, as they name no file."""
        if number >= len(self._samples):
            raise NotFound('there is no sample of this number')
        path = self._samples[number]
        with open(path, 'rb') as file:
            return Response(file.read(), mimetype=(
                'image/png' if path.lower().endswith('.png') else 'image/jpeg'))

    def detect(self) -> Response:
        """Boxes of an image that the request brings."""
        thresholds = self._thresholds()
        data = read_image_bytes(request, self._service.settings.options.max_upload_mb)
        abandoned = functools.partial(has_left, request.environ.get('werkzeug.socket'))
        return jsonify(self._service.detect(data, thresholds, abandoned).answer())

    def detection(self, key: str) -> Response:
        """Boxes of an image that is kept, at any thresholds."""
        return jsonify(self._find(key).answer())

    def result(self, key: str) -> Response:
        """The same boxes as eval.py writes them into a file."""
        return Response(format_result(self._find(key).boxes), mimetype='text/plain',
                        headers={'Content-Disposition': 'attachment'})

    def kernel(self, key: str, number: int) -> Response:
        """A score map as a picture; 1 is the smallest kernel."""
        analysis = self._kept(key)
        if not 1 <= number <= cfg.NUM_KERNELS:
            raise NotFound(f'the kernels have the numbers 1 to {cfg.NUM_KERNELS}')
        return Response(kernel_png(analysis, number - 1), mimetype='image/png')

    def _thresholds(self) -> Thresholds:
        return thresholds_of(request.args, self._service.settings.thresholds)

    def _find(self, key: str) -> Found:
        found = self._service.find_again(key, self._thresholds())
        if found is None:
            raise NotFound(_DROPPED)
        return found

    def _kept(self, key: str) -> Analysis:
        analysis = self._service.kept(key)
        if analysis is None:
            raise NotFound(_DROPPED)
        return analysis
