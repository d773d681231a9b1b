"""The environment that the adapter demands, in Python and natively; NPU.md, section 3."""

import os
from typing import Optional

from fake_npu import record
from fake_npu.rank_table import table_faults
from fake_npu.refusal import refuse, refuse_first
from fake_npu.release import since

_CHIEF = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')


def rank_size() -> int:
    """RANK_SIZE as the distributed optimizer reads it when it builds the graph.

    Raises:
        ValueError: it is not a number; or, in master, CM_WORKER_SIZE is set as well.
    """
    own, other = os.environ.get('RANK_SIZE'), os.environ.get('CM_WORKER_SIZE')
    if since('master') and own is not None and other is not None:
        raise ValueError('RANK_SIZE and CM_WORKER_SIZE are both set; set one of them')
    # An empty variable is set: int('') is a ValueError here as it is there.
    if own is None and since('master'):
        own = other
    return 1 if own is None else int(own)


def rank() -> int:
    """This process's number among the ranks: POD_NAME's where it is set, else RANK_ID's.

    In a job that CM_WORKER_SIZE describes it is the device's, which holds on one server.
    """
    given = os.environ.get('POD_NAME') or os.environ.get('RANK_ID')
    if given is None and _has_chief():
        given = device()
    return int(given or 0)


def _has_chief() -> bool:
    return since('r1.8.0') and all(map(os.environ.get, _CHIEF))


def device() -> Optional[str]:
    """The device as a rank table would name it; None where the environment has none."""
    return os.environ.get('DEVICE_ID') or os.environ.get('ASCEND_DEVICE_ID') or None


def demand_job() -> None:
    """What building an all-reduce demands.

    Raises:
        AttributeError: JOB_ID is missing or empty; the text is the adapter's own.
    """
    if not os.environ.get('JOB_ID'):
        raise AttributeError("'NoneType' object has no attribute '_rank_size'")


def check_device_environment() -> None:
    """What the native part demands when the first session is made.

    Raises:
        AssertionError: the process would abort, use another device than meant, or wait for ranks
            that never come.
    """
    for name in ('ASCEND_DEVICE_ID', 'DEVICE_ID', 'RANK_ID', 'POD_NAME'):
        if os.environ.get(name) and not os.environ[name].isdecimal():
            refuse(f'{name}={os.environ[name]} is no non-negative integer')
    if device() is None:
        record.write('warning', text='neither ASCEND_DEVICE_ID nor DEVICE_ID is set: device 0')
    if not os.environ.get('JOB_ID'):
        record.write('warning', text='JOB_ID is not set')
    if rank_size() > 1:
        _check_ranks(rank_size())
    table = os.environ.get('RANK_TABLE_FILE')
    if table:
        if not (os.environ.get('RANK_ID') or os.environ.get('POD_NAME')):
            refuse('RANK_TABLE_FILE is set without RANK_ID or POD_NAME')
        refuse_first(table_faults(table, rank_size(), str(rank()), device()))


def _check_ranks(size: int) -> None:
    if not os.environ.get('JOB_ID'):
        refuse(f'RANK_SIZE={size} needs JOB_ID')
    if not (os.environ.get('RANK_TABLE_FILE') or _has_chief()):
        refuse(f'RANK_SIZE={size} needs RANK_TABLE_FILE')
    if not _has_chief() and not (os.environ.get('RANK_ID') or os.environ.get('POD_NAME')):
        refuse(f'RANK_SIZE={size} needs RANK_ID or POD_NAME')
    if rank() >= size:
        refuse(f'RANK_ID={rank()} is not below RANK_SIZE={size}')


def meeting_place() -> str:
    """What the ranks of a job have in common: the rank table, or the chief's address."""
    table = os.environ.get('RANK_TABLE_FILE')
    return os.path.realpath(table) if table else '/'.join(map(os.environ.get, _CHIEF[:2]))


def demand_estimator_job() -> None:
    """What making an NPUEstimator demands.

    Raises:
        AttributeError: JOB_ID is missing, or RANK_SIZE beside it; before master.
        ValueError: JOB_ID is missing; master.
    """
    if not os.environ.get('JOB_ID'):
        if since('master'):
            raise ValueError('JOB_ID must be set')
        raise AttributeError("'NPUEstimator' object has no attribute '_NPUEstimator__job_info'")
    if not os.environ.get('RANK_SIZE') and not since('master'):
        raise AttributeError("'int' object has no attribute 'isdigit'")
