"""Client input: an image as a form field or as the whole body, and query parameters."""

import select
import socket
from typing import Optional

from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    LengthRequired,
    RequestEntityTooLarge,
    RequestTimeout,
)
from werkzeug.http import parse_options_header

from inference.config import SHAPES, DetectConfig, validate
from inference.thresholds import Thresholds
from tools.serving.options import MEGABYTE
from tools.serving.service import Question
from utils.errors import PSENetError

IMAGE_FIELD = 'image'
# OpenCV has decoders for many more formats; exposing fewer of them is safer.
_SIGNATURES = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')
_MAX_PARTS = 16
_MAX_HEAD_BYTES = 8192
_LARGEST = 10 ** 9


def read_image_bytes(request: Request, max_upload_mb: int) -> bytes:
    """Reads the image of a request into memory.

    Args:
        request: a form (multipart/form-data) with a field ``image``, or the image file itself.
        max_upload_mb: maximum size of the body in megabytes.

    Returns:
        Contents of the image file, with the signature of a JPEG or PNG file.

    Raises:
        HTTPException: 400, 408, 411 or 413, with a message.
    """
    if request.content_length is None:
        raise LengthRequired('the request has no Content-Length, which an upload needs')
    if request.content_length > max_upload_mb * MEGABYTE:
        raise RequestEntityTooLarge(f'the upload exceeds {max_upload_mb} MB; send a smaller file')
    try:
        body = request.get_data(cache=False)
    except ClientDisconnected:
        raise RequestTimeout('the upload was incomplete or too slow') from None
    data = _image_of_form(request, body) if request.mimetype == 'multipart/form-data' else body
    if not data:
        raise BadRequest('the request has no image; send one as the body or in the field image of '
                         'a form')
    if not data.startswith(_SIGNATURES):
        raise BadRequest('the upload is not an image; send a JPEG or PNG file')
    return data


def _image_of_form(request: Request, body: bytes) -> bytes:
    """Returns the image field of a form, or b''; Flask's parser would write large files to disk."""
    boundary = request.mimetype_params.get('boundary', '').encode()
    try:
        return _field(body, boundary) if boundary else b''
    except ValueError:
        raise BadRequest('the form cannot be read; send multipart/form-data with a field '
                         'image') from None


def _field(body: bytes, boundary: bytes) -> bytes:
    """Finds the image field in a form (RFC 2046, section 5.1.1); ValueError if malformed."""
    *parts, end = (b'\r\n' + body).split(b'\r\n--' + boundary, _MAX_PARTS)[1:]
    if not end.startswith(b'--'):
        raise ValueError('the last boundary is missing, or there are too many')
    for part in parts:
        head, _, data = part.partition(b'\r\n\r\n')
        if len(head) > _MAX_HEAD_BYTES:
            raise ValueError('the headers of a part are too long')
        if _name_of(head) == IMAGE_FIELD:
            return data
    return b''


def _name_of(head: bytes) -> Optional[str]:
    for line in head.decode('utf-8', 'replace').split('\r\n'):
        name, _, value = line.partition(':')
        if name.strip().lower() == 'content-disposition':
            return parse_options_header(value.strip())[1].get('name')
    return None


def question_of(query: MultiDict, defaults: Question) -> Question:
    """Parses the query parameters.

    Args:
        query: names -> texts.
        defaults: defaults of missing parameters.

    Raises:
        BadRequest: a name is unknown or repeated, or a value is invalid.
    """
    given, shape = {}, defaults.output_shape
    for name, texts in query.lists():
        if name not in (*Thresholds._fields, 'output_shape'):
            raise BadRequest(f'unknown parameter {name[:40]}; available are '
                             f'{", ".join(Thresholds._fields)} and output_shape')
        if len(texts) > 1:
            raise BadRequest(f'the parameter {name} is given {len(texts)} times; give it once')
        if name == 'output_shape':
            shape = texts[0]
        else:
            given[name] = _number(name, texts[0])
    try:
        validate(DetectConfig()._replace(**given))
    except PSENetError as error:
        # A flag of the command is a parameter here.
        raise BadRequest(str(error).lstrip('-')) from None
    if shape not in SHAPES:
        raise BadRequest(f'output_shape={shape[:40]} must be {" or ".join(SHAPES)}')
    return Question(defaults.thresholds._replace(**given), shape)


def _number(name: str, text: str) -> float:
    kind = Thresholds.__annotations__[name]
    try:
        number = kind(text)
    except ValueError:
        form = 'an integer' if kind is int else 'a number'
        raise BadRequest(f'{name}={text[:40]} must be {form}') from None
    if number > _LARGEST:
        raise BadRequest(f'{name}={text[:40]} must be at most {_LARGEST}')
    return number


def has_left(connection: Optional[socket.socket]) -> bool:
    """Returns True if a client has closed its connection; False without one, as in tests."""
    if connection is None:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
