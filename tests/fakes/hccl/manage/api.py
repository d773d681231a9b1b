"""Queries about ranks and groups, answered once the collectives are initialised; NPU.md, 4."""

import os
from typing import List

from fake_npu import environment, rank_table
from fake_npu.release import not_established
from fake_npu.session import watch

_WORLD = 'hccl_world_group'


def _demand_initialisation(group: str) -> None:
    if not watch.initialised:
        raise RuntimeError('the collectives are not initialised: run initialize_system in an open '
                           'session before')
    if group != _WORLD:
        not_established(f'a group of its own ({group})')


def _local_ranks() -> List[int]:
    """The ranks on this rank's server, ascending."""
    if environment.rank_size() <= 1:
        return [environment.rank()]
    if not os.environ.get('RANK_TABLE_FILE'):
        not_established('local ranks without a rank table')
    entries = rank_table.entries(os.environ['RANK_TABLE_FILE'])
    server, = (entry.server for entry in entries if entry.rank == str(environment.rank()))
    return sorted(int(entry.rank) for entry in entries if entry.server == server)


def create_group(group: str, rank_num: int, rank_ids: List[int]) -> None:
    """Makes a group of ranks."""
    if rank_num != len(rank_ids):
        raise ValueError(f'rank_num={rank_num}, and rank_ids={rank_ids}')
    _demand_initialisation(group)


def destroy_group(group: str) -> None:
    """Ends a group of ranks."""
    _demand_initialisation(group)


def get_rank_size(group: str = _WORLD) -> int:
    """Number of ranks."""
    _demand_initialisation(group)
    return environment.rank_size()


def get_local_rank_size(group: str = _WORLD) -> int:
    """Number of ranks on this server."""
    _demand_initialisation(group)
    return len(_local_ranks())


def get_rank_id(group: str = _WORLD) -> int:
    """Number of this rank."""
    _demand_initialisation(group)
    return environment.rank()


def get_local_rank_id(group: str = _WORLD) -> int:
    """Number of this rank on its server."""
    _demand_initialisation(group)
    return _local_ranks().index(environment.rank())


def get_world_rank_from_group_rank(group: str, group_rank_id: int) -> int:
    """The number among all ranks of a rank of a group."""
    _demand_initialisation(group)
    return group_rank_id


def get_group_rank_from_world_rank(world_rank_id: int, group: str) -> int:
    """The number within a group of one of all ranks."""
    _demand_initialisation(group)
    return world_rank_id
