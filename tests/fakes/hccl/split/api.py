"""How gradients are split for fusion; checks the arguments, and does nothing; NPU.md, 4."""

from typing import List

from fake_npu.refusal import refuse
from fake_npu.session import watch

_WORLD = 'hccl_world_group'
_MAX_PARTS = 8


def set_split_strategy_by_size(dataSizeList: List[float], group: str = _WORLD) -> None:
    """Percentages of the gradients' bytes, which sum to 100, in at most 8 parts."""
    if not 0 < len(dataSizeList) <= _MAX_PARTS or abs(sum(dataSizeList) - 100) > 1e-6:
        raise ValueError(f'dataSizeList={dataSizeList} must be at most 8 percentages of the sum '
                         '100')
    _demand_no_training()


def set_split_strategy_by_idx(idxList: List[int], group: str = _WORLD) -> None:
    """Ascending numbers of gradients."""
    if sorted(set(idxList)) != list(idxList):
        raise ValueError(f'idxList={idxList} must be ascending')
    _demand_no_training()


def _demand_no_training() -> None:
    if watch.trained:
        refuse('the split strategy is set after the training graph was compiled')
