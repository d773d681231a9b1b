"""Writes the rank table of a training job on several Ascend NPUs, or checks one.

    python -m tools.make_rank_table                     all NPUs of this server, from /etc/hccn.conf
    python -m tools.make_rank_table --devices=0,1,2,3   some of them
    python -m tools.make_rank_table --server=10.0.0.1:a/hccn.conf --server=10.0.0.2:b/hccn.conf
    python -m tools.make_rank_table --devices=0,1 --device_ips=192.168.100.101,192.168.101.101
    python -m tools.make_rank_table --check=rank_table_8p.json

Ranks are numbered in the order of the servers, and of the devices on each. train_npu_8p.sh finds
the file in the project's directory.
"""

import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from absl import flags

from training.devices.npu.job import (
    RankedDevice,
    RankTableError,
    device_warnings,
    numbers_by_server,
    parse_rank_table,
    read_rank_table,
)
from utils import cli
from utils.errors import PSENetError
from utils.files import replacing
from utils.utils_tool import logger

HCCN_CONF = '/etc/hccn.conf'
_ONE_SERVER = '127.0.0.1'


class Server(NamedTuple):
    """A server of the job."""

    server_id: str
    addresses: Dict[int, str]   # device -> IPv4 address of its network port


def read_hccn_conf(path: str) -> Dict[int, str]:
    """Reads the addresses of a server's NPUs.

    Args:
        path: a file with lines ``address_<device>=<address>``, written by hccn_tool.

    Returns:
        Device -> address.

    Raises:
        PSENetError: the file cannot be read, has no such line, or two for one device.
    """
    try:
        with open(path, encoding='utf-8') as file:
            found = re.findall(r'^[ \t]*address_(\d+)[ \t]*=[ \t]*(\S*)', file.read(), re.MULTILINE)
    except (OSError, ValueError) as error:
        raise PSENetError(f'{path} cannot be read ({error}); give the addresses with --device_ips, '
                          'or a copy of the file with --server=ID:PATH') from error
    addresses = {int(number): address for number, address in found}
    if not addresses:
        raise PSENetError(f'{path} has no line address_<device>=<address>; hccn_tool -i <device> '
                          '-ip -s address <address> netmask <mask> sets an address')
    if len(addresses) < len(found):
        raise PSENetError(f'{path} has two addresses for one device; keep the right one')
    return addresses


def ranked(servers: Sequence[Server], devices: Sequence[int]) -> List[RankedDevice]:
    """Assigns ranks to devices.

    Args:
        servers: servers in the order of their ranks.
        devices: devices to use on each server; empty for all.

    Returns:
        The devices in the order of their ranks.

    Raises:
        PSENetError: a server has no address for a device.
    """
    taken = [(server, number) for server in servers
             for number in devices or sorted(server.addresses)]
    for server, number in taken:
        if number not in server.addresses:
            raise PSENetError(f'server {server.server_id} has no address for device {number}; '
                              'choose others with --devices')
    return [RankedDevice(rank, server.server_id, number, server.addresses[number])
            for rank, (server, number) in enumerate(taken)]


def table_text(devices: Sequence[RankedDevice], template: int) -> str:
    """Formats and checks a rank table as JSON.

    Args:
        devices: devices in the order of their ranks.
        template: 1 (recommended) or the older 2.

    Raises:
        PSENetError: no job can start with these devices.
    """
    make = {1: _by_server, 2: _by_rank}[template]
    text = json.dumps(make(devices), indent=2) + '\n'
    try:
        for warning in device_warnings(parse_rank_table(text)):
            logger.warning('the table violates a rule of the Ascend 910: %s', warning)
    except RankTableError as error:
        raise PSENetError(f'no job can run on these devices: {error}') from error
    return text


def _by_server(devices: Sequence[RankedDevice]) -> Dict[str, Any]:
    servers = {}
    for device in devices:
        servers.setdefault(device.server_id, []).append({
            'device_id': str(device.device_id), 'device_ip': device.device_ip,
            'rank_id': str(device.rank_id)})
    return {'version': '1.0', 'server_count': str(len(servers)),
            'server_list': [{'server_id': server_id, 'device': listed}
                            for server_id, listed in servers.items()],
            'status': 'completed'}


def _by_rank(devices: Sequence[RankedDevice]) -> Dict[str, Any]:
    servers = numbers_by_server(devices)
    ports = [f'eth{number}' for number in range(max(map(len, servers.values()), default=0))]
    return {'board_id': '0x0000', 'chip_info': '910', 'deploy_mode': 'lab', 'group_count': '1',
            'group_list': [{
                'group_name': '', 'device_num': str(len(devices)), 'server_num': str(len(servers)),
                'instance_count': str(len(devices)), 'instance_list': [{
                    'devices': [{'device_id': str(device.device_id),
                                 'device_ip': device.device_ip}],
                    'rank_id': str(device.rank_id), 'server_id': device.server_id}
                    for device in devices]}],
            'para_plane_nic_location': 'device', 'para_plane_nic_name': ports,
            'para_plane_nic_num': str(len(ports)), 'status': 'completed'}


def write_table(path: str, text: str, overwrite: bool = False) -> None:
    """Writes a table atomically.

    Raises:
        PSENetError: the file exists and ``overwrite`` is not given, or it cannot be written.
    """
    if os.path.lexists(path) and not overwrite:
        raise PSENetError(f'{path} exists already; choose another --out, or replace it with '
                          '--overwrite')
    with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def _numbers(text: Optional[str]) -> List[int]:
    parts = text.split(',') if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise PSENetError(f'--devices={text} must be device numbers separated by commas, such as '
                          '--devices=0,1,2,3')
    return [int(part) for part in parts]


def _servers(values: flags.FlagValues, devices: List[int]) -> List[Server]:
    given = [text.partition(':')[::2] for text in values.server or [_ONE_SERVER]]
    if not values.device_ips:
        return [Server(server_id, read_hccn_conf(os.path.expanduser(path) or HCCN_CONF))
                for server_id, path in given]
    addresses = values.device_ips.split(',')
    if len(given) > 1 or given[0][1]:
        raise PSENetError('--device_ips is for one server without a file; remove it, or give '
                          '--server=ID once')
    if len(addresses) != len(devices):
        raise PSENetError(f'--device_ips has {len(addresses)} addresses, but --devices has '
                          f'{len(devices)} numbers; give one address for each device')
    return [Server(given[0][0], dict(zip(devices, addresses)))]


def main(_: List[str]) -> None:
    """Writes or checks the table that the flags describe."""
    values = flags.FLAGS
    if values.check:
        _tell(f'{values.check} can be used', read_rank_table(values.check))
        return
    wanted = _numbers(values.devices)
    devices = ranked(_servers(values, wanted), wanted)
    out = values.out or f'rank_table_{len(devices)}p.json'
    write_table(out, table_text(devices, int(values.template)), values.overwrite)
    _tell(f'wrote {out}', devices)


def _tell(what: str, devices: Sequence[RankedDevice]) -> None:
    logger.info('%s: %d ranks', what, len(devices))
    for device in devices:
        logger.info('rank %d: server %s, device %d, %s', *device)


if __name__ == '__main__':
    group = cli.group('rank table')
    flags.DEFINE_multi_string(
        'server', None, f'A server as ID or ID:PATH, where PATH is its hccn.conf ({HCCN_CONF}); '
                        'once for each server, with different IDs.', **group)
    flags.DEFINE_string(
        'devices', None, 'Devices to use on each server, such as 0,1,2,3; by default all that have '
        'an address.', **group)
    flags.DEFINE_string(
        'device_ips', None, 'Addresses of these devices, in order, instead of those in hccn.conf.',
        **group)
    flags.DEFINE_enum('template', '1', ['1', '2'], 'Form of the file; 2 is for old releases.',
                      **group)
    cli.define_path('out', None, 'File to write; by default rank_table_<ranks>p.json.', **group)
    flags.DEFINE_boolean('overwrite', False, 'Replace an existing file.', **group)
    cli.define_path('check', None, 'Check this rank table instead of writing one.', **group)
    cli.run(main, __doc__)
