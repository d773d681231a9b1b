"""The environment variables that tell a process which NPU it uses, and with whom it trains.

The adapter aborts the process on some of their values, ignores others, and takes a rank table that
was left over from another job for an order to start collectives. Where processes disagree about
their job, the collectives wait for minutes and then time out; so all of it is checked before.
"""

from typing import Mapping, MutableMapping, NamedTuple, Optional

from training.rank_table import RankedDevice, RankTableError, read_rank_table
from utils.errors import PSENetError

# Instead of a rank table; newer releases of the adapter read them.
_CHIEF = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')
_LAUNCHER = 'train_npu_8p.sh sets it for each of its processes'


# What the adapter takes for a number or a path where it is set, be it empty: int('') ends it.
_READ_BY_THE_ADAPTER = ('RANK_SIZE', 'RANK_ID', 'POD_NAME', 'JOB_ID', 'RANK_TABLE_FILE',
                        'ASCEND_DEVICE_ID', 'DEVICE_ID', *_CHIEF)


class NpuRank(NamedTuple):
    """Which of the processes that train together this one is."""

    rank: Optional[int] = 0     # None: only the adapter can tell
    size: int = 1


def remove_empty(environment: MutableMapping[str, str]) -> None:
    """Removes the variables that are empty, for the adapter as well to take them for unset.

    Args:
        environment: as ``os.environ``.
    """
    for name in _READ_BY_THE_ADAPTER:
        if environment.get(name) == '':
            del environment[name]


def check_one_device(environment: Mapping[str, str]) -> None:
    """Refuses an environment that is not that of one process on one NPU.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Raises:
        PSENetError: a variable has a value that the adapter cannot use, or asks for several
            devices; the sentence names it.
    """
    given = {name: value for name, value in environment.items() if value}
    for name in ('RANK_SIZE', 'CM_WORKER_SIZE'):
        if _number(given, name, 1) not in (None, 1):
            raise PSENetError('%s=%s is for training on several NPUs, and this runs on one; set '
                              '%s=1 or unset it' % (name, given[name], name))
    rank_from_environment(given)


def rank_from_environment(environment: Mapping[str, str]) -> NpuRank:
    """Reads and checks which NPU this process is to use, and as which rank of a job.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.

    Returns:
        The rank and the number of ranks. A job that CM_WORKER_SIZE describes need not name the
        rank, and newer documents forbid it: then it is None, and the adapter has to be asked.

    Raises:
        PSENetError: a variable is missing or has a value that the adapter cannot use, or the rank
            table is not that of this job, rank and device; the sentence names it.
    """
    given = {name: value for name, value in environment.items() if value}
    for name in ('ASCEND_DEVICE_ID', 'DEVICE_ID'):
        _number(given, name, 0)
    if 'RANK_SIZE' in given and 'CM_WORKER_SIZE' in given:
        raise PSENetError('RANK_SIZE and CM_WORKER_SIZE are both set, which newer releases of the '
                          'adapter refuse; unset one of them')
    size = _number(given, 'RANK_SIZE', 1) or _number(given, 'CM_WORKER_SIZE', 1) or 1
    found = NpuRank(_rank(given, size), size)
    if size > 1:
        _check_job(given, size)
    if 'RANK_TABLE_FILE' in given:
        _check_rank_table(given, found)
    return found


def _number(given: Mapping[str, str], name: str, least: int) -> Optional[int]:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise PSENetError('%s=%s must be a whole number from %d on, or unset'
                          % (name, text, least))
    return int(text)


def _rank(given: Mapping[str, str], size: int) -> Optional[int]:
    """RANK_ID, or POD_NAME, which the adapter prefers where there is a job."""
    shared = size > 1 or 'RANK_TABLE_FILE' in given
    names = ('POD_NAME', 'RANK_ID') if shared else ('RANK_ID',)
    ranks = {name: _number(given, name, 0) for name in names if name in given}
    if len(set(ranks.values())) > 1:
        raise PSENetError('RANK_ID=%d and POD_NAME=%d differ, and the adapter takes the latter for '
                          'the rank; unset one of them' % (ranks['RANK_ID'], ranks['POD_NAME']))
    for name, rank in ranks.items():
        if rank >= size:
            raise PSENetError('%s=%d must be less than the number of ranks, %d (RANK_SIZE)'
                              % (name, rank, size))
    if not ranks and size > 1 and 'CM_WORKER_SIZE' in given:
        return None
    if not ranks and shared:
        raise PSENetError('RANK_ID must be set, from 0 to %d, for %s; %s' % (
            size - 1, 'a job of %d NPUs' % size if size > 1 else 'RANK_TABLE_FILE is set',
            _LAUNCHER))
    return max(ranks.values(), default=0)


def _check_job(given: Mapping[str, str], size: int) -> None:
    """What several ranks need besides their numbers."""
    job = 'a job of %d NPUs' % size
    if 'JOB_ID' not in given:
        raise PSENetError('JOB_ID must be set for %s, to a number that all its processes share, '
                          'such as 10087' % job)
    if not {'ASCEND_DEVICE_ID', 'DEVICE_ID'} & set(given):
        raise PSENetError('ASCEND_DEVICE_ID must be set for %s, or each process would take device '
                          '0; %s' % (job, _LAUNCHER))
    if 'RANK_TABLE_FILE' in given:
        if 'CM_WORKER_SIZE' in given:
            raise PSENetError('RANK_TABLE_FILE and CM_WORKER_SIZE are both set, and either '
                              'describes the job; unset one of them')
    elif 'CM_WORKER_SIZE' not in given:
        raise PSENetError('RANK_TABLE_FILE must be set for %s, to the rank table that all its '
                          'processes share; tools/make_rank_table.py makes one' % job)
    else:
        missing = [name for name in _CHIEF if name not in given]
        if missing:
            raise PSENetError('CM_WORKER_SIZE=%d needs %s as well' % (size, ' and '.join(missing)))


def _check_rank_table(given: Mapping[str, str], found: NpuRank) -> None:
    """A rank table makes the adapter start collectives, so it has to be about this job."""
    path = given['RANK_TABLE_FILE']
    remedy = ('tools/make_rank_table.py makes one' if found.size > 1
              else 'unset RANK_TABLE_FILE to use one NPU')
    try:
        table = read_rank_table(path)
    except RankTableError as error:
        raise RankTableError('RANK_TABLE_FILE: %s; %s' % (error, remedy)) from error
    if len(table) != found.size:
        raise PSENetError('RANK_TABLE_FILE=%s describes %d devices, and the job has %d '
                          '(RANK_SIZE); %s' % (path, len(table), found.size, remedy))
    _check_device(given, table[found.rank], path)


def _check_device(given: Mapping[str, str], listed: RankedDevice, path: str) -> None:
    # The table has physical numbers, as DEVICE_ID; ASCEND_DEVICE_ID is that of the container.
    name = 'DEVICE_ID' if 'DEVICE_ID' in given else 'ASCEND_DEVICE_ID'
    device = _number(given, name, 0)
    if device is not None and device != listed.device_id:
        raise PSENetError('RANK_TABLE_FILE=%s gives rank %d the device %d, and %s=%d names another'
                          '; make them the same, DEVICE_ID being the number on the server'
                          % (path, listed.rank_id, listed.device_id, name, device))
