"""The HTTP server: Werkzeug's, with limits that it lacks, and an end at Ctrl-C and SIGTERM.

Werkzeug's server comes with Flask and gives each connection a thread and one request, which is all
that one network with a short queue can use. What would make it a bad one is added: requests have to
arrive in time, connections are limited, and who is refused can read why. waitress, in its newest
version for Python 3.7 (2.1.2), has CVE-2024-49769, and CVE-2024-49768 in the mode in which it can
tell that a client has left.
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
# For a request to arrive, and for a client to take a part of an answer.
REQUEST_SECONDS = 60
# For a client that was refused to notice, while what it still sends is thrown away.
LINGER_SECONDS = 5


class _InTime(io.RawIOBase):
    """What a connection sends until a deadline, however slowly; then ``socket.timeout``."""

    def __init__(self, connection: socket.socket, seconds: float):
        super().__init__()
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def shorten(self, seconds: float) -> None:
        """Lets reading end no later than so many seconds from now."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def readinto(self, buffer: bytearray) -> int:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(REQUEST_SECONDS)


class _Handler(WSGIRequestHandler):
    """One request of one connection."""

    protocol_version = 'HTTP/1.0'
    server_version = 'PSENet'

    def version_string(self) -> str:
        """What the header Server says: no versions of packages."""
        return self.server_version

    def setup(self) -> None:
        """Reads within a deadline."""
        super().setup()
        self.rfile.close()
        self._input = _InTime(self.connection, REQUEST_SECONDS)
        self.rfile = io.BufferedReader(self._input)

    def end_headers(self) -> None:
        """Ends the head of the answer; Werkzeug 3 then waits for whatever else is being sent."""
        super().end_headers()
        self._input.shorten(LINGER_SECONDS)

    def finish(self) -> None:
        """Leaves a client that is still sending the time to read its answer."""
        with suppress(OSError):
            super().finish()
            self.connection.shutdown(socket.SHUT_WR)
            rest = _InTime(self.connection, LINGER_SECONDS)
            while rest.read(2 ** 16):
                pass

    def send_error(self, code: int, message: Optional[str] = None,
                   explain: Optional[str] = None) -> None:
        """Refuses what is no HTTP; the message would hold what the client sent."""
        super().send_error(code)

    error_message_format = '{"error": "%(message)s", "status": %(code)d}\n'
    error_content_type = 'application/json'

    def log(self, type: str, message: str, *args: Any) -> None:
        """Keeps requests out of the log, where their text could pass for something else."""


class Server(ThreadedWSGIServer):
    """Listens at an address; a thread a connection, and no more than ``MAX_CONNECTIONS``."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: Optional[Callable] = None):
        """Binds the address; who connects waits for ``serve_forever``.

        Args:
            host: an address or name of this machine.
            port: 0 for one that is free.
            app: the WSGI application; where it takes long to make, ``app`` can be set later.

        Raises:
            PSENetError: the address cannot be used.
        """
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(host, port, app, _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'http://{host}:{self.port}/'

    def server_bind(self) -> None:
        """Binds; Werkzeug would end the process over a port in use."""
        try:
            socketserver.TCPServer.server_bind(self)
        except OSError as error:
            raise PSENetError(
                f'cannot listen at --host={self.host} --port={self.port} '
                f'({error.strerror or error}); choose others, or --port=0 for any') from None

    def process_request(self, request: socket.socket, client_address: Tuple) -> None:
        """Starts the thread of a connection; more connections than may be wait to be accepted."""
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket.socket, client_address: Tuple) -> None:
        """Serves a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: socket.socket, client_address: Tuple) -> None:
        """Logs what Flask did not answer."""
        logger.error('a connection failed', exc_info=True)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Logs what happens besides requests."""
        logger.error(message, *args)


def serve_until_signalled(server: Server) -> int:
    """Serves until Ctrl-C or SIGTERM; signals that come later are ignored, the end being near.

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
