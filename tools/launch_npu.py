"""Starts the ranks of a training job on the Ascend NPUs of one server.

    bash train_npu_8p.sh [--flag=value ...]

All arguments are passed to train_npu.sh of every rank, and so to npu_train.py (see its --help).
Environment variables and their defaults:

    RANK_SIZE=8             number of ranks of the job, on all servers
    RANK_TABLE_FILE=rank_table_<RANK_SIZE>p.json, next to train_npu_8p.sh
                            the device of each rank; tools.make_rank_table writes it
    FIRST_RANK=0            first rank on this server; 8 on the second of two servers
    DEVICES=<as the table>  devices as numbered by this machine or container: 0,1,2,3
    JOB_ID=10087            id of the job; the same on all servers
    HCCL_CONNECT_TIMEOUT=600
                            seconds that the ranks wait for each other to connect
    RANK_OUTPUT=<checkpoint_path>/rank_%r.out
                            file for stdout and stderr of a rank (%r is the rank, %d the device);
                            rank 0 writes to the terminal. Logs go to rank_<rank>.log there
    BIND_CORES=1            give each rank its share of the processor cores and as many readers, at
                            most 16; 0 disables both
    GRACE_SECONDS=30        seconds between SIGTERM and SIGKILL for the others if a rank fails

If a rank fails, the job ends with its exit code. Ctrl-C and SIGTERM are passed on to the ranks,
which save and exit; after a second signal they have GRACE_SECONDS left.
"""

import os
import sys
from typing import FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from tools.rank_processes import Rank, run_ranks
from training.devices.npu.job import RankedDevice, read_rank_table
from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import configure_logging, logger

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HELP_ARGUMENTS = ('-h', '-help', '--help')
# npu_train.py starts no more readers than this.
_MAX_READERS = 16


class Place(NamedTuple):
    """A rank and its device."""

    rank: int
    physical: int   # device number in the rank table
    logical: int    # as the process sees it


def places(environment: Mapping[str, str], root: str) -> Tuple[int, List[Place], Optional[str]]:
    """Determines the ranks that start on this server.

    Args:
        environment: as ``os.environ``; an empty value counts as unset.
        root: directory of the default rank table.

    Returns:
        The number of ranks of the job; the ranks to start here, in order; and the path of the rank
        table, None for a job of one rank.

    Raises:
        PSENetError: the environment or the rank table is invalid.
    """
    devices = _devices(environment)
    size = _number(environment, 'RANK_SIZE', len(devices) or 8, least=1)
    first = _number(environment, 'FIRST_RANK', 0)
    if size == 1:
        device = devices[0] if devices else _number(
            environment, 'ASCEND_DEVICE_ID', _number(environment, 'DEVICE_ID', 0))
        return size, [Place(0, device, device)], None
    path = environment.get('RANK_TABLE_FILE') or os.path.join(root, f'rank_table_{size}p.json')
    here = _of_this_server(_table(path, size), first, path)
    if devices and len(devices) != len(here):
        raise PSENetError(f'DEVICES={environment["DEVICES"]} names {len(devices)} devices, but '
                          f'{path} has {len(here)} ranks for one server from FIRST_RANK={first}; '
                          'make them agree')
    return size, [Place(one.rank_id, one.device_id, logical)
                  for one, logical in zip(here, devices or [one.device_id for one in here])], path


def _devices(environment: Mapping[str, str]) -> List[int]:
    text = environment.get('DEVICES')
    if not text:
        return []
    parts = text.split(',')
    if not all(part.isascii() and part.isdigit() for part in parts) or len({*parts}) < len(parts):
        raise PSENetError(f'DEVICES={text} must be distinct device numbers separated by commas, '
                          'such as DEVICES=0,1,2,3')
    return [int(part) for part in parts]


def _number(environment: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise PSENetError(f'{name}={text} must be an integer of at least {least}')
    return int(text)


def _table(path: str, size: int) -> Tuple[RankedDevice, ...]:
    if not os.path.exists(path):
        raise PSENetError(f'the rank table RANK_TABLE_FILE={path} does not exist; make one with '
                          'tools.make_rank_table (--help shows how)')
    table = read_rank_table(path)
    if len(table) != size:
        raise PSENetError(f'RANK_SIZE={size}, but the rank table {path} has {len(table)} ranks; '
                          'make them agree')
    return table


def _of_this_server(table: Sequence[RankedDevice], first: int, path: str) -> List[RankedDevice]:
    if first >= len(table):
        raise PSENetError(f'FIRST_RANK={first}, but the last rank of {path} is {len(table) - 1}')
    here = [one for one in table if one.server_id == table[first].server_id]
    if [one.rank_id for one in here] != list(range(first, first + len(here))):
        raise PSENetError(f'the ranks of server {here[0].server_id} in {path} are '
                          f'{", ".join(str(one.rank_id) for one in here)}, but must be consecutive '
                          f'from FIRST_RANK={first}')
    return here


def plan(environment: Mapping[str, str], arguments: Sequence[str], root: str,
         cores: FrozenSet[int]) -> List[Rank]:
    """Plans the processes to start on this server.

    Args:
        environment: as ``os.environ``.
        arguments: arguments of train_npu.sh.
        root: directory of train_npu.sh.
        cores: processor cores that may be used.

    Returns:
        One process per rank, in order.

    Raises:
        PSENetError: as ``places``.
    """
    size, here, table = places(environment, root)
    share = len(cores) // len(here) if environment.get('BIND_CORES') != '0' else 0
    directory = checkpoint_folder(arguments) or os.path.join(root, 'checkpoint')
    pattern = environment.get('RANK_OUTPUT') or os.path.join(directory, 'rank_%r.out')
    common = {'HCCL_CONNECT_TIMEOUT': '600', **environment, 'RANK_SIZE': str(size)}
    # Clusters set it for a container, but the adapter would take it for the rank.
    common.pop('POD_NAME', None)
    if table:
        common['RANK_TABLE_FILE'] = table
    readers = [f'--num_readers={min(share, _MAX_READERS)}'] if share else []
    command = ('bash', os.path.join(root, 'train_npu.sh'), *readers, *arguments)
    return [Rank(
        f'rank {place.rank} on device {place.logical}', command,
        {**common, 'RANK_ID': str(place.rank), 'DEVICE_ID': str(place.physical),
         'ASCEND_DEVICE_ID': str(place.logical)},
        frozenset(sorted(cores)[index * share:(index + 1) * share]),
        pattern.replace('%r', str(place.rank)).replace('%d', str(place.logical))
        if place.rank else None,
        os.path.join(directory, f'rank_{place.rank}.log') if place.rank else None)
        for index, place in enumerate(here)]


def checkpoint_folder(arguments: Sequence[str]) -> Optional[str]:
    """Returns the last --checkpoint_path among the arguments, in any form that absl accepts."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None]):
        name, equals, value = argument.partition('=')
        if name in ('--checkpoint_path', '-checkpoint_path'):
            found = value if equals else following
    return found and os.path.expanduser(found)


def main(arguments: List[str]) -> int:
    """Runs the job; returns its exit code."""
    if any(argument in _HELP_ARGUMENTS for argument in arguments):
        cli.print_text(__doc__.strip())
        return 0
    # train_npu_8p.sh changes to the project's directory for `python -m`.
    os.chdir(os.environ.pop('START_DIRECTORY', '.'))
    grace = _number(os.environ, 'GRACE_SECONDS', 30)
    ranks = plan(os.environ, arguments, ROOT, frozenset(os.sched_getaffinity(0)))
    logger.info('starting %s', ', '.join(rank.name for rank in ranks))
    for rank in ranks:
        if rank.output:
            try:
                os.makedirs(os.path.dirname(os.path.abspath(rank.output)), exist_ok=True)
            except OSError as error:
                raise PSENetError(f'the directory of {rank.output} cannot be created '
                                  f'({error.strerror}); choose another with --checkpoint_path or '
                                  'RANK_OUTPUT') from error
            logger.info('output of %s: %s', rank.name, rank.output)
    return run_ranks(ranks, grace)


if __name__ == '__main__':
    configure_logging()
    try:
        sys.exit(main(sys.argv[1:]))
    except PSENetError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
