"""Options of the server in addition to those of detection, and their flags."""

import ipaddress
from typing import NamedTuple

from absl import flags

from utils.cli import define_path, group
from utils.errors import PSENetError

MEGABYTE = 2 ** 20
class ServeOptions(NamedTuple):
    """Options of a server; field names are flag names, units are in the flags' help."""

    host: str = '127.0.0.1'
    port: int = 8080
    max_upload_mb: int = 20
    queue_size: int = 4
    max_kept_mb: int = 512
    samples: str = ''


_DEFAULTS = ServeOptions()


def define_serve_flags() -> None:
    """Defines the flags of a server (absl; call once, in an entry script)."""
    server, limits = group('server'), group('limits')
    flags.DEFINE_string(
        'host', _DEFAULTS.host, 'Address to listen on. Anyone who can reach it can use the server: '
        'there is no authentication.', **server)
    flags.DEFINE_integer(
        'port', _DEFAULTS.port, 'Port to listen on; 0 for any free port.', 0, 65535, **server)
    define_path(
        'samples', _DEFAULTS.samples, 'Directory of sample images that the page offers.', **server)
    flags.DEFINE_integer(
        'max_upload_mb', _DEFAULTS.max_upload_mb, 'Maximum size of a request in megabytes.', 1,
        **limits)
    flags.DEFINE_integer(
        'queue_size', _DEFAULTS.queue_size, 'Images that may wait while the network is busy; '
        'further ones are rejected.', 0, **limits)
    flags.DEFINE_integer(
        'max_kept_mb', _DEFAULTS.max_kept_mb, 'Megabytes of stored score maps, so that other '
        'thresholds do not need another run of the network.', 1, **limits)


def serve_options_from_flags(flag_values: flags.FlagValues) -> ServeOptions:
    """Reads and checks the flags of ``define_serve_flags``.

    Raises:
        PSENetError: a value is invalid; the message names the flag.
    """
    options = ServeOptions(*(getattr(flag_values, name) for name in ServeOptions._fields))
    if not options.host:
        raise PSENetError('--host is empty; give an address such as 127.0.0.1')
    return options


def is_loopback(host: str) -> bool:
    """Returns True if an address can only be reached from this machine."""
    if host.lower() == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
