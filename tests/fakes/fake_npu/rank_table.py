"""Reading a rank table of either template; NPU.md, section 11."""

import json
from typing import Any, Iterator, List, NamedTuple, Optional


class Entry(NamedTuple):
    """A device of the table."""

    rank: str
    server: str
    device: str
    ip: str


def entries(path: str) -> List[Entry]:
    """The devices of a rank table.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is none.
    """
    return _entries(_read(path))


def table_faults(path: str, size: int, rank: str, device: Optional[str]) -> Iterator[str]:
    """What is wrong with a rank table.

    Args:
        path: of the file.
        size: ranks of the job.
        rank: this process's.
        device: this process's, as the environment has it; None where it has none.

    Yields:
        One sentence for each fault.
    """
    try:
        table = _read(path)
        devices = _entries(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f'RANK_TABLE_FILE={path} cannot be used: {error!r}'
        return
    start = f'RANK_TABLE_FILE={path} '
    if table.get('status') != 'completed':
        yield start + f"has status {table.get('status')!r}, not completed"
    ranks = [entry.rank for entry in devices]
    if sorted(ranks, key=str) != sorted(map(str, range(size)), key=str):
        yield start + f'describes the ranks {ranks}, and RANK_SIZE={size}'
    yield from (start + fault for fault in _entry_faults(devices))
    own, = (entry for entry in devices if entry.rank == rank)
    if device is not None and device != own.device:
        yield start + 'gives rank %s the device %s, and the environment names device %s' % (
            rank, own.device, device)


def _entry_faults(devices: List[Entry]) -> Iterator[str]:
    for entry in devices:
        if not 0 < len(entry.server) < 64:
            yield f'has the server_id {entry.server!r}'
    for what, values in (('device', [entry[1:3] for entry in devices]),
                         ('device_ip', [entry.ip for entry in devices])):
        if len(set(values)) != len(values):
            yield f'has a {what} twice: {values}'


def _read(path: str) -> Any:
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def _entries(table: Any) -> List[Entry]:
    if 'server_list' in table:
        return [Entry(device['rank_id'], server['server_id'], device['device_id'],
                      device['device_ip'])
                for server in table['server_list'] for device in server['device']]
    return [Entry(instance['rank_id'], instance['server_id'], device['device_id'],
                  device['device_ip'])
            for group in table['group_list'] for instance in group['instance_list']
            for device in instance['devices']]
