"""The place of a process in its job, its GPU, and the process that stands above it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from training.devices.launcher import RankInfo, find_rank, own_gpu
from utils.errors import PSENetError

HOROVODRUN = {'HOROVOD_RANK': '3', 'HOROVOD_SIZE': '4', 'HOROVOD_LOCAL_RANK': '1',
              'HOROVOD_LOCAL_SIZE': '2'}
OPEN_MPI = {'OMPI_COMM_WORLD_RANK': '3', 'OMPI_COMM_WORLD_SIZE': '4',
            'OMPI_COMM_WORLD_LOCAL_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_SIZE': '2'}
MPICH = {'PMI_RANK': '3', 'PMI_SIZE': '4', 'MPI_LOCALRANKID': '1', 'MPI_LOCALNRANKS': '2'}


@pytest.mark.parametrize('environment', [HOROVODRUN, OPEN_MPI, MPICH])
def test_every_launcher_says_the_place(environment):
    assert find_rank(environment, distributed=True) == RankInfo(3, 4, 1, 2)


def test_without_a_launcher_the_process_is_alone_and_says_so(messages):
    assert find_rank({}, distributed=True) == RankInfo(0, 1, 0, 1)
    message, = messages()
    assert 'trains alone' in message


def test_a_process_that_is_not_to_be_distributed_is_alone_without_a_word(messages):
    assert find_rank({}, distributed=False) == RankInfo()
    assert find_rank({**HOROVODRUN, 'HOROVOD_RANK': '0', 'HOROVOD_SIZE': '1'}, False).rank == 0
    assert messages() == []


def test_several_processes_that_would_train_apart_are_refused():
    with pytest.raises(PSENetError, match=r'one of 4 processes.*add the flag'):
        find_rank(HOROVODRUN, distributed=False)


@pytest.mark.parametrize('damage', [{'HOROVOD_SIZE': 'four'}, {'HOROVOD_SIZE': '-4'}])
def test_what_is_no_number_is_named(damage):
    with pytest.raises(PSENetError, match=f"HOROVOD_SIZE={damage['HOROVOD_SIZE']} "):
        find_rank({**HOROVODRUN, **damage}, distributed=True)


@pytest.mark.parametrize('distributed', [True, False])
def test_a_part_of_the_variables_is_no_launcher(distributed):
    assert find_rank({'PMI_RANK': '1', 'PMI_SIZE': '2'}, distributed) == RankInfo()


@pytest.mark.parametrize(('gpu_list', 'local_rank', 'own'), [
    ('0,1', 0, '0'), ('0,1', 1, '1'), ('5,2', 1, '2'), ('', 1, '')])
def test_each_process_of_a_machine_has_its_gpu(gpu_list, local_rank, own):
    assert own_gpu(gpu_list, RankInfo(local_rank + 2, 4, local_rank, 2)) == own


def test_too_few_gpus_are_named():
    with pytest.raises(PSENetError, match=r'--gpu_list=0 has 1 GPU\(s\) for 2 processes'):
        own_gpu('0', RankInfo(0, 4, 0, 2))


def test_gpus_that_stay_idle_are_said_once_a_machine(messages):
    assert [own_gpu('0,1,2', RankInfo(rank, 4, rank % 2, 2)) for rank in (2, 3)] == ['0', '1']
    message, = messages()
    assert 'idle' in message


def below(body):
    """Starts a process that steps below its launcher and then runs a program's text."""
    program = 'from training.devices.launcher import step_below_launcher\nstep_below_launcher()\n%s'
    return subprocess.Popen([sys.executable, '-c', program % textwrap.dedent(body)], text=True,
                            stdout=subprocess.PIPE)


@pytest.mark.parametrize(('body', 'exit_code'), [
    ('raise SystemExit(7)', 7), ('import os; os.kill(os.getpid(), 9)', 128 + 9)])
def test_the_exit_code_of_the_trainer_reaches_the_launcher(body, exit_code):
    process = below(body)
    process.communicate(timeout=60)
    assert process.returncode == exit_code


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_trainer_and_waits_for_its_end(signum):
    process = below("""
        import os, signal, sys
        def end(signum, _):
            print(signum, flush=True)
            sys.exit(128 + signum)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, end)
        print(os.getpid(), os.getppid(), flush=True)
        while True:
            signal.pause()
        """)
    trainer, above = map(int, process.stdout.readline().split())
    assert above == process.pid != trainer
    os.kill(above, signum)
    printed, _ = process.communicate(timeout=60)
    assert (printed.strip(), process.returncode) == (str(int(signum)), 128 + signum)
