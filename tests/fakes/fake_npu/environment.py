"""The environment that the adapter's Python demands; NPU.md, section 3."""

import os

from fake_npu.release import since


def rank_size() -> int:
    """RANK_SIZE as the distributed optimizer reads it when it builds the graph.

    Raises:
        ValueError: it is no number; or, in master, CM_WORKER_SIZE is set as well.
    """
    own, other = os.environ.get('RANK_SIZE'), os.environ.get('CM_WORKER_SIZE')
    if since('master') and own and other:
        raise ValueError('RANK_SIZE and CM_WORKER_SIZE are both set; set one of them')
    return int(own or (other if since('master') else None) or 1)


def demand_job() -> None:
    """What building an all-reduce demands.

    Raises:
        AttributeError: JOB_ID is missing or empty; the text is the adapter's own.
    """
    if not os.environ.get('JOB_ID'):
        raise AttributeError("'NoneType' object has no attribute '_rank_size'")
