"""Whatever goes wrong, as ``{"error": "one sentence", "status": n}``."""

import math

from flask import Flask, Response, jsonify
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    RequestTimeout,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
)

from tools.serving.jobs import AbandonedError, ClosedError, QueueFullError
from utils.errors import PSENetError
from utils.image_io import ImageError, ImageTooLargeError
from utils.utils_tool import logger

# For those that Flask raises of itself.
_SENTENCES = {
    404: 'there is nothing at this address',
    405: 'this address does not take that method',
    500: 'the server failed, and its log says why',
}


def answer_errors(app: Flask) -> None:
    """Turns errors of an app's routes into answers; what is no client's fault is logged."""
    app.register_error_handler(HTTPException, _as_json)
    app.register_error_handler(ImageError, lambda error: _as_json(BadRequest(str(error))))
    app.register_error_handler(
        ImageTooLargeError, lambda error: _as_json(UnprocessableEntity(str(error))))
    app.register_error_handler(QueueFullError, _queue_full)
    app.register_error_handler(AbandonedError, lambda _: _as_json(
        RequestTimeout('the connection was closed before the answer')))
    app.register_error_handler(ClosedError, lambda _: _as_json(
        ServiceUnavailable('the server is about to end')))
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
    return _as_json(TooManyRequests('the network has as many images waiting as it may; try again '
                                    f'in {seconds} s', retry_after=seconds))


def _logged(error: PSENetError) -> Response:
    logger.error('%s', error)
    return _as_json(InternalServerError(str(error)))


def _logged_with_traceback(error: Exception) -> Response:
    logger.error('a request failed', exc_info=error)
    return _as_json(InternalServerError())
