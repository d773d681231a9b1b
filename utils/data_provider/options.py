"""What shapes a batch, beside the samples, and which values cannot work."""

from typing import NamedTuple, Optional

from utils.data_provider.layout import BatchLayout
from utils.errors import PSENetError
from utils.utils_tool import cfg

_MAX_SEED = 2 ** 32 - 1


class BatchOptions(NamedTuple):
    """What shapes a batch, beside the samples."""

    input_size: int                 # side of the network's input in pixels
    batch_size: int                 # samples of this process
    seed: Optional[int]             # 0 .. 2**32 - 1; None only until one has been chosen
    min_crop_side_ratio: float
    rank: int = 0                   # of this process, 0 .. world_size - 1
    world_size: int = 1             # processes that train together

    @property
    def global_batch_size(self) -> int:
        """Samples of all processes."""
        return self.world_size * self.batch_size

    @property
    def layout(self) -> BatchLayout:
        """The shapes of this process's arrays."""
        return BatchLayout(self.batch_size, self.input_size)

    def describe_batch(self) -> str:
        """The size of a batch of all processes, for messages."""
        if self.world_size == 1:
            return str(self.batch_size)
        return f'{self.global_batch_size} ({self.world_size} processes x {self.batch_size})'


def check_options(options: BatchOptions) -> None:
    """Refuses what cannot work.

    Raises:
        PSENetError: the first fault found.
    """
    if options.input_size < 1 or options.input_size % cfg.SIDE_MULTIPLE:
        raise PSENetError(f'--input_size must be a positive multiple of {cfg.SIDE_MULTIPLE}, '
                          f'not {options.input_size}.')
    check_at_least('batch size', options.batch_size, 1)
    if options.seed is not None and not 0 <= options.seed <= _MAX_SEED:
        raise PSENetError(f'--seed must lie in 0 .. {_MAX_SEED}, not {options.seed}.')
    if not 0 <= options.min_crop_side_ratio <= 1:
        raise PSENetError('--min_crop_side_ratio must lie in 0 .. 1, '
                          f'not {options.min_crop_side_ratio}.')
    check_at_least('number of processes', options.world_size, 1)
    if not 0 <= options.rank < options.world_size:
        raise PSENetError(f'The rank of one of {options.world_size} processes must lie in '
                          f'0 .. {options.world_size - 1}, not {options.rank}.')


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises PSENetError where a named value is too small."""
    if value < least:
        raise PSENetError(f'The {name} must be at least {least}, not {value}.')
