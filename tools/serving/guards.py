"""Who may ask: pages of this server, and programs, but no page of another site.

A browser sends requests for any page that it shows. Pages of other sites are told apart by the
Origin that they come from and, where a name of theirs leads to this machine (DNS rebinding), by the
Host that they ask for.
"""

from typing import Optional
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import Forbidden

from tools.serving.options import is_loopback

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
    """Refuses requests of other sites' pages, and puts protecting headers on all answers.

    Args:
        app: to be guarded.
        host: the address that it listens at. Names that lead to another than a loopback address are
            not known, so there any Host is accepted.
    """
    if is_loopback(host):
        app.before_request(_refuse_foreign_host)
    app.before_request(_refuse_foreign_origin)
    app.after_request(_add_headers)


def _refuse_foreign_host() -> None:
    if not is_loopback(_host_name(request) or ''):
        raise Forbidden('the Host of the request is not this machine; ask for 127.0.0.1 or '
                        'localhost')


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
