"""What horovodrun or mpirun tells each process of a job, read before TensorFlow starts.

The launcher starts the same command several times and numbers the processes in their environment.
From that come the share of the data, the GPU and the log of each.
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

# Rank, size, and the same among the processes of one machine: horovodrun over Gloo; mpirun of Open
# MPI, which horovodrun over MPI calls; mpirun of MPICH and Intel MPI. All four make a launcher: job
# managers set some of them for any program.
_LAUNCHERS = (
    ('HOROVOD_RANK', 'HOROVOD_SIZE', 'HOROVOD_LOCAL_RANK', 'HOROVOD_LOCAL_SIZE'),
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK',
     'OMPI_COMM_WORLD_LOCAL_SIZE'),
    ('PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS'),
)


class RankInfo(NamedTuple):
    """The rank of this process in its job; numbers count from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0    # among those of this machine
    local_size: int = 1


def define_distributed_flag() -> None:
    """Defines ``--distributed`` (absl; call once, in an entry script)."""
    flags.DEFINE_enum(
        'distributed', '', ['', 'horovod'],
        'Train as one of several processes, which Horovod starts: horovodrun -np 2 .venv/bin/'
        'python train.py --distributed=horovod --gpu_list=0,1 ...; each takes one of the GPUs, and '
        '--batch_size_per_gpu is the batch of each. `make setup-horovod` installs it.',
        **group('device'))


def find_rank(environment: Mapping[str, str], distributed: bool) -> RankInfo:
    """Reads the rank of this process.

    Args:
        environment: as ``os.environ``.
        distributed: whether this process is to train together with the others.

    Returns:
        The rank; that of a process alone where no launcher has set one.

    Raises:
        PSENetError: a variable is not a number; or there are several processes, and they
            are not to train together.
    """
    rank_info = _read_rank(environment)
    if rank_info is None:
        if distributed:
            logger.info('--distributed=horovod: neither horovodrun nor mpirun started this '
                        'process, so it trains alone')
        return RankInfo()
    if not distributed and rank_info.world_size > 1:
        raise PSENetError(f'this is one of {rank_info.world_size} processes that a launcher '
                          'started, and without --distributed=horovod each would train on its own '
                          'into the same folder; add the flag')
    return rank_info


def _read_rank(environment: Mapping[str, str]) -> Optional[RankInfo]:
    for names in _LAUNCHERS:
        if all(name in environment for name in names):
            return RankInfo(*(_number(environment, name) for name in names))
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment[name]
    if not value.isdecimal():
        raise PSENetError(f'{name}={value} in the environment must be a number, as horovodrun and '
                          'mpirun set it; start the job with one of them')
    return int(value)


def own_gpu(gpu_list: str, rank_info: RankInfo) -> str:
    """Chooses the GPU of a process from those of its machine.

    Args:
        gpu_list: ``--gpu_list``, the same for all processes.
        rank_info: which process it is.

    Returns:
        The ``local_rank``-th GPU, in the form of ``--gpu_list``; empty for the CPU.

    Raises:
        PSENetError: the machine has more processes than the list has GPUs.
    """
    gpus = parse_gpu_list(gpu_list)
    if not gpus:
        return ''
    if len(gpus) < rank_info.local_size:
        raise PSENetError(f'--gpu_list={gpu_list} names {len(gpus)} GPU(s) for '
                          f'{rank_info.local_size} processes on this machine: name one for each, '
                          'or none for the CPU')
    if len(gpus) > rank_info.local_size and rank_info.local_rank == 0:
        logger.warning('--gpu_list=%s names %d GPUs for %d process(es) on this machine: the others '
                       'stay idle', gpu_list, len(gpus), rank_info.local_size)
    return str(gpus[rank_info.local_rank])


def step_below_launcher() -> None:
    """Continues in a child process and waits for it, so that horovodrun can end it in order.

    horovodrun ends a job by SIGTERM to the children of the shell that it started a process with,
    and by SIGKILL to what is left five seconds later. Where the shell is replaced by its command,
    as bash's is and dash's is not, the trainer stands in its place, and the children are the
    readers: they would end, and the trainer be killed without ever having got a signal.

    Call it before TensorFlow is imported: what has threads must not be forked.
    """
    # Between the fork and the handlers a signal would end this process and not the child.
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
