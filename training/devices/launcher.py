"""Rank of a process started by horovodrun or mpirun, read before TensorFlow starts.

The launcher starts the same command several times, with the rank in the environment. The rank
determines the process's share of the data, its GPU and its log.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import Mapping, NamedTuple, Optional

from absl import flags

from utils.cli import group
from utils.errors import PSENetError
from utils.tf_env import parse_gpu_list
from utils.utils_tool import STOP_SIGNALS, logger

# Rank and size of the job, and on the machine: horovodrun over Gloo; mpirun of Open MPI, also used
# by horovodrun; mpirun of MPICH and Intel MPI. All four must be set, as job managers set some of
# them for any program.
_LAUNCHERS = (
    ('HOROVOD_RANK', 'HOROVOD_SIZE', 'HOROVOD_LOCAL_RANK', 'HOROVOD_LOCAL_SIZE'),
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK',
     'OMPI_COMM_WORLD_LOCAL_SIZE'),
    ('PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS'),
)


class RankInfo(NamedTuple):
    """Rank of this process in its job; ranks start from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0    # on this machine
    local_size: int = 1


def define_distributed_flag() -> None:
    """Defines ``--distributed`` (absl; call once, in an entry script)."""
    flags.DEFINE_enum(
        'distributed', '', ['', 'horovod'],
        'Train as one of several processes started by Horovod: horovodrun -np 2 .venv/bin/python '
        'train.py --distributed=horovod --gpu_list=0,1 ...; each process uses one GPU and a batch '
        'of --batch_size_per_gpu. `make setup-horovod` installs Horovod.',
        **group('device'))


def find_rank(environment: Mapping[str, str], distributed: bool) -> RankInfo:
    """Reads the rank of this process.

    Args:
        environment: as ``os.environ``.
        distributed: whether ``--distributed`` is given.

    Returns:
        The rank; that of a single process without a launcher.

    Raises:
        PSENetError: a variable is not a number, or there are several processes without
            ``--distributed``.
    """
    rank_info = _read_rank(environment)
    if rank_info is None:
        if distributed:
            logger.info('--distributed=horovod: this process was not started by horovodrun or '
                        'mpirun, so it trains alone')
        return RankInfo()
    if not distributed and rank_info.world_size > 1:
        raise PSENetError(f'this is one of {rank_info.world_size} processes of a launcher; without '
                          '--distributed=horovod each would train separately in the same '
                          'directory; add the flag')
    return rank_info


def _read_rank(environment: Mapping[str, str]) -> Optional[RankInfo]:
    for names in _LAUNCHERS:
        if all(name in environment for name in names):
            return RankInfo(*(_number(environment, name) for name in names))
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment[name]
    if not value.isdecimal():
        raise PSENetError(f'{name}={value} in the environment must be a number; start the job with '
                          'horovodrun or mpirun')
    return int(value)


def own_gpu(gpu_list: str, rank_info: RankInfo) -> str:
    """Selects the GPU of a process.

    Args:
        gpu_list: ``--gpu_list``, the same for all processes.
        rank_info: rank of the process.

    Returns:
        The ``local_rank``-th GPU, in the form of ``--gpu_list``; empty for the CPU.

    Raises:
        PSENetError: the machine has more processes than there are GPUs in the list.
    """
    gpus = parse_gpu_list(gpu_list)
    if not gpus:
        return ''
    if len(gpus) < rank_info.local_size:
        raise PSENetError(f'--gpu_list={gpu_list} has {len(gpus)} GPU(s) for '
                          f'{rank_info.local_size} processes on this machine; list one for each, '
                          'or none for the CPU')
    if len(gpus) > rank_info.local_size and rank_info.local_rank == 0:
        logger.warning('--gpu_list=%s has %d GPUs for %d process(es) on this machine: the others '
                       'stay idle', gpu_list, len(gpus), rank_info.local_size)
    return str(gpus[rank_info.local_rank])


def step_below_launcher() -> None:
    """Continues in a child process and waits for it, so that horovodrun can stop it properly.

    horovodrun ends a job by SIGTERM to the children of the shell that started a process, and by
    SIGKILL five seconds later. If the shell was replaced by its command, as bash does and dash does
    not, the trainer takes its place and the children are the readers: these would be terminated,
    and the trainer killed without having received a signal.

    Call it before TensorFlow is imported, as a process with threads must not be forked.
    """
    # A signal between the fork and the handlers would end only this process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    child = os.fork()
    if child:
        _pass_signals_on(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _pass_signals_on(child: int) -> None:
    def pass_on(signum: int, _frame) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signum)

    for signum in STOP_SIGNALS:
        signal.signal(signum, pass_on)
