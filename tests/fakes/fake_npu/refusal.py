"""How the fake speaks of what the adapter would ignore, abort on or get wrong in silence."""

from typing import Iterable, NoReturn

from fake_npu.release import release


def refuse(fault: str) -> NoReturn:
    """Fails the test that runs.

    Raises:
        AssertionError: always.
    """
    raise AssertionError(f'fake npu_bridge ({release()}): {fault}')


def refuse_first(faults: Iterable[str]) -> None:
    """Refuses when there is a fault; does nothing without one."""
    for fault in faults:
        refuse(fault)
