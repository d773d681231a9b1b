"""NPU and rank of a process, from the environment and the rank table.

The adapter aborts on some invalid environment variables, ignores others, and starts collectives if
the rank table of another job is set. The collective library reports a wrong table or inconsistent
processes only as a time-out after minutes. Therefore everything is checked before the start.
tools.make_rank_table uses the same rules, from CANN's documents for the Ascend 910 (Atlas training
products); rules that do not apply to newer products give warnings.
"""

import json
from collections import Counter
from ipaddress import AddressValueError, IPv4Address
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from utils.errors import PSENetError
from utils.utils_tool import logger

DEVICES_OF_A_SERVER = 8
# Devices 0 to 3 are linked, and so are 4 to 7; part of a server must not span both groups.
_LINKED = 4
_PARTS_OF_A_SERVER = (1, 2, 4, 8)
_MAX_SERVER_ID = 63


class RankTableError(PSENetError):
    """A rank table is unreadable or invalid."""


class RankedDevice(NamedTuple):
    """An NPU of a job."""

    rank_id: int
    server_id: str
    device_id: int   # physical number within the server, 0..7
    device_ip: str   # IPv4 address of its network port


def read_rank_table(path: str) -> Tuple[RankedDevice, ...]:
    """Reads and checks a rank table of either template.

    Args:
        path: JSON file, as in RANK_TABLE_FILE.

    Returns:
        The devices in the order of their ranks: item i has rank i.

    Raises:
        RankTableError: the file cannot be read or is invalid; the message names the file and the
            first fault.
    """
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise RankTableError(f'the rank table {path} cannot be read '
                             f'({getattr(error, "strerror", None) or error})') from error
    try:
        devices = parse_rank_table(text)
        for warning in device_warnings(devices):
            logger.warning('the rank table %s violates a rule of the Ascend 910: %s', path, warning)
        return devices
    except RankTableError as error:
        raise RankTableError(f'the rank table {path} is invalid: {error}') from error


def parse_rank_table(text: str) -> Tuple[RankedDevice, ...]:
    """Parses and checks the text of a rank table.

    Args:
        text: JSON, of template 1 (``server_list``) or the older template 2 (``group_list``).

    Returns:
        The devices in the order of their ranks.

    Raises:
        RankTableError: the table is invalid; the message does not name the file.
    """
    try:
        table = json.loads(text)
    except ValueError as error:
        raise RankTableError(f'it is not JSON ({error}; JSON has no comments)') from error
    if not isinstance(table, dict) or not {'server_list', 'group_list'} & set(table):
        raise RankTableError('it has neither a server_list nor a group_list')
    status = _text(table, 'status', 'the table')
    if status != 'completed':
        raise RankTableError(f"its status is {status!r}, but must be 'completed'")
    devices = _of_servers(table) if 'server_list' in table else _of_groups(table)
    for fault in device_faults(devices):
        raise RankTableError(fault)
    return tuple(sorted(devices))


def device_faults(devices: Sequence[RankedDevice]) -> Iterator[str]:
    """Checks the devices of a job.

    Args:
        devices: devices in any order.

    Yields:
        A clause for each violated rule.
    """
    ranks = sorted(device.rank_id for device in devices)
    if not ranks or ranks != list(range(len(ranks))):
        yield (f'its rank_ids are {", ".join(map(str, ranks)) or "missing"}, but must be the '
               'numbers from 0, once each')
    for address in _repeated(device.device_ip for device in devices):
        yield f'two devices have the device_ip {address}'
    for device in devices:
        yield from _address_faults(device)
    servers = numbers_by_server(devices)
    for server_id, numbers in servers.items():
        yield from _server_faults(server_id, numbers)
    if len({len(numbers) for numbers in servers.values()}) > 1:
        yield ('its servers use different numbers of devices (%s)'
               % ', '.join(f'{server_id} with {len(numbers)}'
                           for server_id, numbers in servers.items()))


def numbers_by_server(devices: Sequence[RankedDevice]) -> Dict[str, List[int]]:
    """Returns server_id -> device_ids, in order."""
    servers = {}
    for device in devices:
        servers.setdefault(device.server_id, []).append(device.device_id)
    return servers


def _address_faults(device: RankedDevice) -> Iterator[str]:
    try:
        IPv4Address(device.device_ip)
    except AddressValueError:
        yield (f'rank {device.rank_id} has the device_ip {device.device_ip!r}, which is not an '
               'IPv4 address')


def _server_faults(server_id: str, numbers: List[int]) -> Iterator[str]:
    if not 0 < len(server_id) <= _MAX_SERVER_ID:
        yield (f'the server_id {server_id!r} has {len(server_id)} characters, but must have 1 to '
               f'{_MAX_SERVER_ID}')
    for number in _repeated(numbers):
        yield f'server {server_id} has the device_id {number} twice'


def device_warnings(devices: Sequence[RankedDevice]) -> Iterator[str]:
    """Checks rules of the Ascend 910 that do not apply to newer products.

    Args:
        devices: devices in any order.

    Yields:
        A clause for each violated rule.
    """
    for server_id, numbers in numbers_by_server(devices).items():
        yield from _server_warnings(server_id, numbers)


def _server_warnings(server_id: str, numbers: List[int]) -> Iterator[str]:
    outside = [number for number in numbers if not 0 <= number < DEVICES_OF_A_SERVER]
    if outside:
        yield (f'server {server_id} has the device_id {outside[0]}, but must be from 0 to '
               f'{DEVICES_OF_A_SERVER - 1}')
    listed = ', '.join(map(str, sorted(numbers)))
    if len(numbers) not in _PARTS_OF_A_SERVER:
        yield (f'server {server_id} uses {len(numbers)} devices ({listed}), but must use 1, 2, 4 '
               'or 8')
    elif len(numbers) in (2, 4) and len({number // _LINKED for number in numbers}) > 1:
        yield (f'server {server_id} uses the devices {listed}, but {len(numbers)} devices must be '
               'within 0-3 or within 4-7')


def _repeated(values: Iterator) -> List:
    return [value for value, times in Counter(values).items() if times > 1]


def _of_servers(table: Dict[str, Any]) -> List[RankedDevice]:
    """Reads the devices of template 1."""
    version = _text(table, 'version', 'the table')
    if version != '1.0':
        raise RankTableError(f"its version is {version!r}, but must be '1.0' for this device")
    servers = _items(table, 'server_list', 'the table')
    _check_count(table, 'server_count', len(servers), 'the table')
    ids = [_text(server, 'server_id', 'a server') for server in servers]
    for repeated in _repeated(ids):
        raise RankTableError(f'two servers have the server_id {repeated}')
    return [_device(entry, _number(entry, 'rank_id', f'a device of server {server_id}'), server_id)
            for server_id, server in zip(ids, servers)
            for entry in _items(server, 'device', f'server {server_id}')]


def _of_groups(table: Dict[str, Any]) -> List[RankedDevice]:
    """Reads the devices of template 2, which has an instance for each rank."""
    groups = _items(table, 'group_list', 'the table')
    _check_count(table, 'group_count', len(groups), 'the table')
    if 'para_plane_nic_name' in table:
        _check_count(table, 'para_plane_nic_num', len(table['para_plane_nic_name']), 'the table')
    return [device for group in groups for device in _of_group(group)]


def _of_group(group: Dict[str, Any]) -> List[RankedDevice]:
    instances = _items(group, 'instance_list', 'a group')
    devices = [_of_instance(instance) for instance in instances]
    _check_count(group, 'instance_count', len(instances), 'a group')
    _check_count(group, 'device_num', len(devices), 'a group')
    _check_count(group, 'server_num', len({device.server_id for device in devices}), 'a group')
    return devices


def _of_instance(instance: Dict[str, Any]) -> RankedDevice:
    rank_id = _number(instance, 'rank_id', 'an instance')
    where = f'the instance of rank {rank_id}'
    entries = _items(instance, 'devices', where)
    if len(entries) != 1:
        raise RankTableError(f'{where} has {len(entries)} devices, but must have one')
    return _device(entries[0], rank_id, _text(instance, 'server_id', where))


def _device(entry: Dict[str, Any], rank_id: int, server_id: str) -> RankedDevice:
    where = f'the device of rank {rank_id}'
    return RankedDevice(rank_id, server_id, _number(entry, 'device_id', where),
                        _text(entry, 'device_ip', where))


def _items(owner: Dict[str, Any], key: str, where: str) -> List[Dict[str, Any]]:
    value = owner.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RankTableError(f'{where} has no list of objects {key!r}')
    return value


def _text(owner: Dict[str, Any], key: str, where: str) -> str:
    value = owner.get(key)
    if not isinstance(value, str):
        raise RankTableError(f'{where} has no {key!r} in quotes')
    return value


def _number(owner: Dict[str, Any], key: str, where: str) -> int:
    text = _text(owner, key, where)
    if not (text.isascii() and text.isdigit()):
        raise RankTableError(f'{where} has the {key} {text!r}, which is not a number')
    return int(text)


def _check_count(owner: Dict[str, Any], key: str, found: int, where: str) -> None:
    said = _number(owner, key, where)
    if said != found:
        raise RankTableError(f'{where} has {key} {said}, but lists {found}')


# Replacement of the rank table in newer releases of the adapter.
_CHIEF = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')
_LAUNCHER = 'train_npu_8p.sh sets it for each of its processes'
# Variables that the adapter parses even if they are empty: int('') makes it exit.
_READ_BY_THE_ADAPTER = ('RANK_SIZE', 'RANK_ID', 'POD_NAME', 'JOB_ID', 'RANK_TABLE_FILE',
                        'ASCEND_DEVICE_ID', 'DEVICE_ID', *_CHIEF)


class NpuRank(NamedTuple):
    """Rank of this process and number of ranks."""

    rank: Optional[int] = 0     # None if only the adapter knows it
    size: int = 1


def remove_empty(environment: MutableMapping[str, str]) -> None:
    """Removes empty variables, so that the adapter treats them as unset.

    Args:
        environment: as ``os.environ``.
    """
    for name in _READ_BY_THE_ADAPTER:
        if environment.get(name) == '':
            del environment[name]


def check_one_device(environment: Mapping[str, str]) -> None:
    """Checks that the environment is that of a single process on one NPU.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Raises:
        PSENetError: a variable is invalid or for several devices; the message names it.
    """
    given = {name: value for name, value in environment.items() if value}
    for name in ('RANK_SIZE', 'CM_WORKER_SIZE'):
        if _environment_number(given, name, 1) not in (None, 1):
            raise PSENetError(f'{name}={given[name]} is for training on several NPUs, but this '
                              f'command uses one; set {name}=1 or unset it')
    rank_from_environment(given)


def rank_from_environment(environment: Mapping[str, str]) -> NpuRank:
    """Reads and checks the NPU and the rank of this process.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Returns:
        The rank and the number of ranks. With CM_WORKER_SIZE the rank is optional, and newer
        documents forbid it: then it is None, and only the adapter knows it.

    Raises:
        PSENetError: a variable is missing or invalid, or the rank table does not match job, rank or
            device; the message names it.
    """
    given = {name: value for name, value in environment.items() if value}
    for name in ('ASCEND_DEVICE_ID', 'DEVICE_ID'):
        _environment_number(given, name, 0)
    if 'RANK_SIZE' in given and 'CM_WORKER_SIZE' in given:
        raise PSENetError('RANK_SIZE and CM_WORKER_SIZE are both set, which newer releases of the '
                          'adapter reject; unset one of them')
    size = (_environment_number(given, 'RANK_SIZE', 1)
            or _environment_number(given, 'CM_WORKER_SIZE', 1) or 1)
    found = NpuRank(_rank(given, size), size)
    if size > 1:
        _check_job(given, size)
    if 'RANK_TABLE_FILE' in given:
        _check_rank_table(given, found)
    return found


def _environment_number(given: Mapping[str, str], name: str, least: int) -> Optional[int]:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise PSENetError(f'{name}={text} must be an integer of at least {least}, or unset')
    return int(text)


def _rank(given: Mapping[str, str], size: int) -> Optional[int]:
    """Reads RANK_ID, or POD_NAME, which the adapter prefers in a job."""
    shared = size > 1 or 'RANK_TABLE_FILE' in given
    names = ('POD_NAME', 'RANK_ID') if shared else ('RANK_ID',)
    ranks = {name: _environment_number(given, name, 0) for name in names if name in given}
    if len(set(ranks.values())) > 1:
        raise PSENetError(f'RANK_ID={ranks["RANK_ID"]} and POD_NAME={ranks["POD_NAME"]} differ, '
                          'and the adapter uses the latter; unset one of them')
    for name, rank in ranks.items():
        if rank >= size:
            raise PSENetError(f'{name}={rank} must be less than the number of ranks, {size} '
                              '(RANK_SIZE)')
    if not ranks and size > 1 and 'CM_WORKER_SIZE' in given:
        return None
    if not ranks and shared:
        reason = f'for a job of {size} NPUs' if size > 1 else 'with RANK_TABLE_FILE'
        raise PSENetError(f'RANK_ID must be set, from 0 to {size - 1}, {reason}; {_LAUNCHER}')
    return max(ranks.values(), default=0)


def _check_job(given: Mapping[str, str], size: int) -> None:
    """Checks the variables that a job of several ranks needs."""
    job = f'a job of {size} NPUs'
    if 'JOB_ID' not in given:
        raise PSENetError(f'JOB_ID must be set for {job}, to the same number in all processes, '
                          'such as 10087')
    if not {'ASCEND_DEVICE_ID', 'DEVICE_ID'} & set(given):
        raise PSENetError(f'ASCEND_DEVICE_ID must be set for {job}, or each process would use '
                          f'device 0; {_LAUNCHER}')
    if 'RANK_TABLE_FILE' in given:
        if 'CM_WORKER_SIZE' in given:
            raise PSENetError('RANK_TABLE_FILE and CM_WORKER_SIZE are both set, but only one may '
                              'describe the job; unset one of them')
    elif 'CM_WORKER_SIZE' not in given:
        raise PSENetError(f'RANK_TABLE_FILE must be set for {job}, to the same rank table in all '
                          'processes; tools.make_rank_table writes one')
    else:
        missing = [name for name in _CHIEF if name not in given]
        if missing:
            raise PSENetError(f"CM_WORKER_SIZE={size} also needs {' and '.join(missing)}")


def _check_rank_table(given: Mapping[str, str], found: NpuRank) -> None:
    """Checks that the rank table, with which the adapter starts collectives, is for this job."""
    path = given['RANK_TABLE_FILE']
    remedy = ('tools.make_rank_table writes one' if found.size > 1
              else 'unset RANK_TABLE_FILE to use one NPU')
    try:
        table = read_rank_table(path)
    except RankTableError as error:
        raise RankTableError(f'RANK_TABLE_FILE: {error}; {remedy}') from error
    if len(table) != found.size:
        raise PSENetError(f'RANK_TABLE_FILE={path} describes {len(table)} devices, but the job has '
                          f'{found.size} (RANK_SIZE); {remedy}')
    _check_device(given, table[found.rank], path)


def _check_device(given: Mapping[str, str], listed: RankedDevice, path: str) -> None:
    # The table and DEVICE_ID have physical numbers, ASCEND_DEVICE_ID those of the container.
    name = 'DEVICE_ID' if 'DEVICE_ID' in given else 'ASCEND_DEVICE_ID'
    device = _environment_number(given, name, 0)
    if device is not None and device != listed.device_id:
        raise PSENetError(f'RANK_TABLE_FILE={path} gives rank {listed.rank_id} the device '
                          f'{listed.device_id}, but {name}={device}; make them agree (DEVICE_ID is '
                          'the number on the server)')
