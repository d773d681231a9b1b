"""The release of the adapter that the fake stands for: environment variable FAKE_NPU_RELEASE.

Source: NPU.md, the list of branches at its top, and section 2 (names per branch).
"""

import os
from typing import NoReturn

VARIABLE = 'FAKE_NPU_RELEASE'
DEFAULT = 'development'
# In the order of their dates.
RELEASES = ('r1.1.1', 'development', 'r1.3.0', 'r1.5.0', 'r1.8.0', 'master', '2026')


def release() -> str:
    """The name of the release.

    Raises:
        ValueError: the environment names none of RELEASES.
    """
    name = os.environ.get(VARIABLE, DEFAULT)
    if name not in RELEASES:
        raise ValueError(f"{VARIABLE}={name} must be one of {', '.join(RELEASES)}")
    return name


def since(first: str) -> bool:
    """Whether the release is ``first`` or a later one."""
    return RELEASES.index(release()) >= RELEASES.index(first)


def not_established(what: str) -> NoReturn:
    """Refuses what the facts do not tell enough about to imitate.

    Raises:
        NotEstablishedError: always.
    """
    raise NotEstablishedError(
        f'the fake npu_bridge ({release()}) does not imitate {what}: the known facts about the '
        'adapter do not say enough about it')


class NotEstablishedError(Exception):
    """A test relies on what nobody here knows about the adapter."""
