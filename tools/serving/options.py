"""What a server can be told besides what detection can, and the flags that say it."""

import ipaddress
from typing import Iterator, NamedTuple

from absl import flags

from utils.cli import define_path, group
from utils.errors import PSENetError

MEGABYTE = 2 ** 20
# Below these a server could not do anything.
_SMALLEST = {'port': 0, 'max_upload_mb': 1, 'queue_size': 0, 'max_kept_mb': 1}


class ServeOptions(NamedTuple):
    """A server; the field names are the flag names, units are in the flags' help."""

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
        'host', _DEFAULTS.host, 'Address to listen at. Whoever reaches another one than that of '
        'this machine alone can use the server: there is no authentication.', **server)
    flags.DEFINE_integer(
        'port', _DEFAULTS.port, 'Port to listen at; 0 for any that is free.', **server)
    define_path(
        'samples', _DEFAULTS.samples, 'Folder of images that the page offers to try.', **server)
    flags.DEFINE_integer(
        'max_upload_mb', _DEFAULTS.max_upload_mb, 'Megabytes that a request may have.', **limits)
    flags.DEFINE_integer(
        'queue_size', _DEFAULTS.queue_size, 'Images that may wait while the network is at work; '
        'any more are refused.', **limits)
    flags.DEFINE_integer(
        'max_kept_mb', _DEFAULTS.max_kept_mb, 'Megabytes of score maps that are kept, so that '
        'other thresholds take no other run of the network.', **limits)


def serve_options_from_flags(flag_values: flags.FlagValues) -> ServeOptions:
    """Reads and checks the flags of ``define_serve_flags``.

    Raises:
        PSENetError: a value cannot work; the sentence names the flag.
    """
    options = ServeOptions(*(getattr(flag_values, name) for name in ServeOptions._fields))
    for fault in _faults(options):
        raise PSENetError(fault)
    return options


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host.lower() == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _faults(options: ServeOptions) -> Iterator[str]:
    if not options.host:
        yield '--host is empty; give an address such as 127.0.0.1'
    for name, smallest in _SMALLEST.items():
        if getattr(options, name) < smallest:
            yield f'--{name}={getattr(options, name)} must be at least {smallest}'
    if options.port > 65535:
        yield f'--port={options.port} must be at most 65535'
