"""The environment variables that tell a process which NPU it trains on, and with whom.

The adapter aborts the process on some of their values, ignores others, and takes a rank table that
was left over from another job for an order to start collectives.
"""

import json
from typing import Any, List, Mapping, Optional

from utils.errors import PSENetError

_SEVERAL = ('training on several NPUs is not in this version; set %s=1 or unset it, and train on '
            'one')


def check_one_device(environment: Mapping[str, str]) -> None:
    """Refuses an environment that is not that of one process on one NPU.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Raises:
        PSENetError: a variable has a value that the adapter cannot use, or asks for several
            devices; the sentence names it.
    """
    given = {name: value for name, value in environment.items() if value}
    for name in ('ASCEND_DEVICE_ID', 'DEVICE_ID'):
        _number(given, name, 0)
    for name in ('RANK_SIZE', 'CM_WORKER_SIZE'):
        if _number(given, name, 1) not in (None, 1):
            raise PSENetError('%s=%s: %s' % (name, given[name], _SEVERAL % name))
    if 'RANK_SIZE' in given and 'CM_WORKER_SIZE' in given:
        raise PSENetError('RANK_SIZE and CM_WORKER_SIZE are both set, which newer releases of the '
                          'adapter refuse; unset one of them')
    if _number(given, 'RANK_ID', 0) not in (None, 0):
        raise PSENetError('RANK_ID=%s must be 0 for a process that trains alone; set it to 0 or '
                          'unset it' % given['RANK_ID'])
    if 'RANK_TABLE_FILE' in given:
        _check_rank_table(given)


def _number(given: Mapping[str, str], name: str, least: int) -> Optional[int]:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise PSENetError('%s=%s must be a whole number from %d on, or unset'
                          % (name, text, least))
    return int(text)


def _check_rank_table(given: Mapping[str, str]) -> None:
    """A rank table makes the adapter start collectives, so it has to be about this device."""
    path = given['RANK_TABLE_FILE']
    remedy = 'unset it to train on one NPU'
    try:
        with open(path, encoding='utf-8') as file:
            table = json.load(file)
        status, devices = table['status'], _device_ids(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PSENetError('RANK_TABLE_FILE=%s cannot be read as a rank table (%s: %s); %s'
                          % (path, type(error).__name__, error, remedy)) from error
    if status != 'completed':
        raise PSENetError('RANK_TABLE_FILE=%s has the status %r, not completed; %s'
                          % (path, status, remedy))
    if len(devices) != 1:
        raise PSENetError('RANK_TABLE_FILE=%s describes %d devices; %s'
                          % (path, len(devices), remedy))
    device = given.get('DEVICE_ID', given.get('ASCEND_DEVICE_ID'))
    if device is not None and device != devices[0]:
        raise PSENetError('RANK_TABLE_FILE=%s describes device %s and the environment names device '
                          '%s; %s' % (path, devices[0], device, remedy))
    if 'RANK_ID' not in given and 'POD_NAME' not in given:
        raise PSENetError('RANK_TABLE_FILE=%s is set, so RANK_ID must be set too; set it to 0, or '
                          'unset RANK_TABLE_FILE' % path)


def _device_ids(table: Any) -> List[str]:
    """The devices of a rank table of either form: ``server_list``, or the older ``group_list``."""
    if 'server_list' in table:
        return [device['device_id'] for server in table['server_list']
                for device in server['device']]
    return [device['device_id'] for one in table['group_list']
            for instance in one['instance_list'] for device in instance['devices']]
