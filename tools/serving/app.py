"""Flask application: routes, access checks, and errors as ``{"error": ..., "status": n}``.

Requests from this server's pages and from programs are accepted, those from pages of other sites
are not. Browsers send requests on behalf of any page; those of other sites are recognised by their
Origin and, against DNS rebinding, by their Host.
"""

import functools
import json
import math
import os
from concurrent.futures import CancelledError
from typing import Callable, List, Optional, Tuple
from urllib.parse import urlsplit

from flask import Flask, Request, Response, jsonify, render_template, request
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    InternalServerError,
    NotFound,
    RequestTimeout,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
)

from inference.results import format_result
from tools.serving.inputs import has_left, question_of, read_image_bytes
from tools.serving.options import is_loopback
from tools.serving.service import (
    AbandonedError,
    Found,
    Question,
    QueueFullError,
    Service,
    kernel_png,
)
from utils.errors import PSENetError
from utils.image_io import ImageError, ImageTooLargeError, list_images
from utils.utils_tool import cfg, logger

_HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}


def guard(app: Flask, host: str) -> None:
    """Rejects requests from pages of other sites, and adds security headers to all responses.

    Args:
        app: the application.
        host: listening address. The names of an address other than loopback are unknown, so that
            any Host is accepted there.
    """
    if is_loopback(host):
        app.before_request(_refuse_foreign_host)
    app.before_request(_refuse_foreign_origin)
    app.after_request(_add_headers)


def _refuse_foreign_host() -> None:
    if not is_loopback(_host_name(request) or ''):
        raise Forbidden('the Host of the request is not this machine; use 127.0.0.1 or localhost')


def _host_name(asked: Request) -> Optional[str]:
    try:
        return urlsplit(f'//{asked.headers.get("Host", "")}').hostname
    except ValueError:  # "[::1" and the like
        return None


def _refuse_foreign_origin() -> None:
    if request.method in ('GET', 'HEAD'):
        return
    origin = request.headers.get('Origin')
    if origin is not None and origin.partition('://')[2] != request.headers.get('Host'):
        raise Forbidden('the request comes from a page of another site')


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response


# Messages for errors raised by Flask itself.
_SENTENCES = {
    404: 'there is nothing at this address',
    405: 'this address does not support that method',
    500: 'the server failed; see its log',
}


def answer_errors(app: Flask) -> None:
    """Turns errors of an app's routes into responses, and logs those of the server."""
    app.register_error_handler(HTTPException, _as_json)
    app.register_error_handler(ImageError, lambda error: _as_json(BadRequest(str(error))))
    app.register_error_handler(
        ImageTooLargeError, lambda error: _as_json(UnprocessableEntity(str(error))))
    app.register_error_handler(QueueFullError, _queue_full)
    app.register_error_handler(AbandonedError, lambda _: _as_json(
        RequestTimeout('the connection was closed before the response')))
    app.register_error_handler(CancelledError, lambda _: _as_json(
        ServiceUnavailable('the server is shutting down')))
    app.register_error_handler(PSENetError, _logged)
    app.register_error_handler(Exception, _logged_with_traceback)


def _as_json(error: HTTPException) -> Response:
    own = error.description != type(error).description
    sentence = error.description if own else _SENTENCES.get(error.code, error.name)
    answer = jsonify(error=sentence, status=error.code)
    answer.status_code = error.code
    headers = error.get_headers()
    answer.headers.extend((name, value) for name, value in headers if name != 'Content-Type')
    return answer


def _queue_full(error: QueueFullError) -> Response:
    seconds = max(1, math.ceil(error.seconds))
    return _as_json(TooManyRequests(f'the queue is full; try again in {seconds} s',
                                    retry_after=seconds))


def _logged(error: PSENetError) -> Response:
    logger.error('%s', error)
    return _as_json(InternalServerError(str(error)))


def _logged_with_traceback(error: Exception) -> Response:
    logger.error('a request failed', exc_info=error)
    return _as_json(InternalServerError())


MAX_SAMPLES = 8
_OPENAPI = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'openapi.json')
_DROPPED = ('no image is stored under this id, because newer images replaced it or the server was '
            'restarted; upload the image again')


def create_app(service: Service) -> Flask:
    """Creates the application.

    Args:
        service: service that handles the requests.

    Returns:
        A thread-safe WSGI application.

    Raises:
        PSENetError: the directory of samples cannot be used.
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
    """Converts a file name for display; bytes that are not UTF-8 are escaped."""
    return name.encode('utf-8', 'backslashreplace').decode('utf-8')


class _Views:
    """View functions."""

    def __init__(self, service: Service):
        self._service = service
        directory = service.settings.options.samples
        self._samples: List[str] = list_images(directory)[:MAX_SAMPLES] if directory else []

    def routes(self) -> Tuple[Tuple[str, str, Callable], ...]:
        """Lists method, address and function of each route; Flask itself serves ``/static/``."""
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
        """Returns the web page."""
        return render_template(
            'index.html', settings=self._service.settings, scales=cfg.KERNEL_SCALES,
            thresholds=self._service.settings.config.thresholds,
            model=_text(self._service.settings.model),
            samples=[_text(os.path.basename(path)) for path in self._samples])

    def health(self) -> Response:
        """Returns the state of the server."""
        return jsonify(self._service.health())

    @staticmethod
    def openapi() -> Response:
        """Returns the description of the API."""
        with open(_OPENAPI, encoding='utf-8') as file:
            return jsonify(json.load(file))

    def sample(self, number: int) -> Response:
        """Returns a sample image; it has a number, as clients cannot name files."""
        if number >= len(self._samples):
            raise NotFound('there is no sample with this number')
        path = self._samples[number]
        with open(path, 'rb') as file:
            return Response(file.read(), mimetype=(
                'image/png' if path.lower().endswith('.png') else 'image/jpeg'))

    def detect(self) -> Response:
        """Finds the regions of an uploaded image."""
        question = self._question()
        data = read_image_bytes(request, self._service.settings.options.max_upload_mb)
        abandoned = functools.partial(has_left, request.environ.get('werkzeug.socket'))
        return jsonify(self._service.detect(data, question, abandoned).answer())

    def detection(self, key: str) -> Response:
        """Finds the regions of a stored image at any thresholds."""
        return jsonify(self._find(key).answer())

    def result(self, key: str) -> Response:
        """Returns the same regions in the format of eval.py's result files."""
        return Response(format_result(self._find(key).regions.polygons), mimetype='text/plain',
                        headers={'Content-Disposition': 'attachment'})

    def kernel(self, key: str, number: int) -> Response:
        """Returns a score map as an image; 1 is the smallest kernel."""
        analysis = self._service.kept(key)
        if analysis is None:
            raise NotFound(_DROPPED)
        if not 1 <= number <= cfg.NUM_KERNELS:
            raise NotFound(f'the kernels have the numbers 1 to {cfg.NUM_KERNELS}')
        return Response(kernel_png(analysis, number - 1), mimetype='image/png')

    def _question(self) -> Question:
        return question_of(request.args, Question.of(self._service.settings.config))

    def _find(self, key: str) -> Found:
        found = self._service.find_again(key, self._question())
        if found is None:
            raise NotFound(_DROPPED)
        return found
