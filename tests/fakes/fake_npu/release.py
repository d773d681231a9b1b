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
        raise ValueError('%s=%s must be one of %s' % (VARIABLE, name, ', '.join(RELEASES)))
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
        'the fake npu_bridge (%s) does not imitate %s: the known facts about the adapter do not '
        'say enough about it' % (release(), what))


class NotEstablishedError(Exception):
    """A test relies on what nobody here knows about the adapter."""
