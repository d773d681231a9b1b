"""HTTP server: Werkzeug's with additional limits, which stops at Ctrl-C and SIGTERM.

Werkzeug's server comes with Flask and serves one request per connection in its own thread, which is
enough for one network with a short queue. Added are a time limit for requests, a limit on
connections, and an orderly close so that rejected clients receive the reason. waitress 2.1.2, the
newest version for Python 3.7, has CVE-2024-49769 and, in the mode in which it notices that a client
has disconnected, CVE-2024-49768.
"""

import io
import signal
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import Any, Callable, Optional, Tuple

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from utils.errors import PSENetError
from utils.utils_tool import logger

MAX_CONNECTIONS = 32
# Time for a request to arrive, and for a client to accept a part of a response.
REQUEST_SECONDS = 60
# Time for a rejected client to read the response while further input is discarded.
LINGER_SECONDS = 5


class _InputUntilDeadline(io.RawIOBase):
    """Input of a connection, with ``socket.timeout`` after a deadline."""

    def __init__(self, connection: socket.socket, seconds: float):
        super().__init__()
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def shorten(self, seconds: float) -> None:
        """Moves the deadline to at most so many seconds from now."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def readinto(self, buffer: bytearray) -> int:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(REQUEST_SECONDS)


class _Handler(WSGIRequestHandler):
    """Handles the single request of a connection."""

    protocol_version = 'HTTP/1.0'
    server_version = 'PSENet'

    def version_string(self) -> str:
        """Returns the header Server, without versions of packages."""
        return self.server_version

    def setup(self) -> None:
        """Sets up reading with a deadline."""
        super().setup()
        self.rfile.close()
        self._input = _InputUntilDeadline(self.connection, REQUEST_SECONDS)
        self.rfile = io.BufferedReader(self._input)

    def end_headers(self) -> None:
        """Ends the response headers; Werkzeug 3 then waits for any further input."""
        super().end_headers()
        self._input.shorten(LINGER_SECONDS)

    def finish(self) -> None:
        """Gives a client that is still sending the time to read its response."""
        with suppress(OSError):
            super().finish()
            self.connection.shutdown(socket.SHUT_WR)
            rest = _InputUntilDeadline(self.connection, LINGER_SECONDS)
            while rest.read(2 ** 16):
                pass

    def send_error(self, code: int, message: Optional[str] = None,
                   explain: Optional[str] = None) -> None:
        """Rejects invalid HTTP, without the message, which would quote the client's input."""
        super().send_error(code)

    error_message_format = '{"error": "%(message)s", "status": %(code)d}\n'
    error_content_type = 'application/json'

    def log(self, type: str, message: str, *args: Any) -> None:
        """Does not log requests, whose text could imitate other messages."""


class Server(ThreadedWSGIServer):
    """Serves each connection in its own thread, at most ``MAX_CONNECTIONS`` at once."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: Optional[Callable] = None):
        """Binds the address; connections wait for ``serve_forever``.

        Args:
            host: an address or name of this machine.
            port: port; 0 for any free one.
            app: WSGI application; if it takes long to create, ``app`` can be set later.

        Raises:
            PSENetError: the address cannot be used.
        """
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(host, port, app, _Handler)

    @property
    def url(self) -> str:
        """The URL of the page."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'http://{host}:{self.port}/'

    def server_bind(self) -> None:
        """Binds the address; Werkzeug would exit if the port is in use."""
        try:
            socketserver.TCPServer.server_bind(self)
        except OSError as error:
            raise PSENetError(
                f'cannot listen on --host={self.host} --port={self.port} '
                f'({error.strerror or error}); choose others, or --port=0 for any') from None

    def process_request(self, request: socket.socket, client_address: Tuple) -> None:
        """Starts the thread of a connection; excess connections wait to be accepted."""
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket.socket, client_address: Tuple) -> None:
        """Serves a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: socket.socket, client_address: Tuple) -> None:
        """Logs errors outside Flask."""
        logger.error('a connection failed', exc_info=True)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Logs messages other than those about requests."""
        logger.error(message, *args)


def serve_until_signalled(server: Server) -> int:
    """Serves until Ctrl-C or SIGTERM; later signals are ignored.

    Returns:
        The exit code: 130 or 143.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _frame: Any) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, end)
    try:
        server.serve_forever(poll_interval=0.2)
    except SystemExit as ended:
        return ended.code
    return 0
