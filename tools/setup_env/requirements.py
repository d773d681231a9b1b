"""Which packages .venv gets: the pinned ones, less those that it shares with the interpreter."""

import pathlib
import re
from typing import Dict, List, NamedTuple

# Each of these owns the folders of the package tensorflow, so there can only be one.
TENSORFLOW_BUILDS = (
    'tensorflow', 'tensorflow-gpu', 'tensorflow-cpu', 'intel-tensorflow', 'nvidia-tensorflow')
_OPENCV_BUILDS = (
    'opencv-python', 'opencv-python-headless', 'opencv-contrib-python',
    'opencv-contrib-python-headless')
_BUILDS = {'tensorflow': TENSORFLOW_BUILDS, 'opencv-python': _OPENCV_BUILDS}
# Names of modules where they differ from the names of what is installed.
_MODULES = {
    'absl-py': 'absl', 'opencv-python': 'cv2', 'pillow': 'PIL', 'protobuf': 'google.protobuf'}


class Requirement(NamedTuple):
    """One line of a requirements file.

    Attributes:
        name: of the distribution, normalized.
        line: without its comment, ``numpy==1.18.5; platform_machine != "aarch64"``.
    """

    name: str
    line: str


def normalize(name: str) -> str:
    """Returns the form of a distribution's name in which names are compared (PEP 503)."""
    return re.sub(r'[-_.]+', '-', name).lower()


def distribution_name(requirement: str) -> str:
    """Returns the normalized name in a requirement, a line or the path of a wheel."""
    if requirement.endswith('.whl'):
        return normalize(pathlib.PurePath(requirement).name.split('-')[0])
    return normalize(re.match(r'[\w.-]*', requirement).group())


def read(path: pathlib.Path) -> List[Requirement]:
    """Reads a requirements or constraints file; options such as ``-c`` are left out."""
    lines = [line.split('#')[0].strip() for line in path.read_text(encoding='utf-8').splitlines()]
    return [Requirement(distribution_name(line), line)
            for line in lines if line and not line.startswith('-')]


def select(pinned: List[Requirement], tensorflow: str, kept: Dict[str, str]) -> List[str]:
    """Chooses what to install.

    Args:
        pinned: requirements.txt.
        tensorflow: a requirement in the place of the pinned TensorFlow; '' for that one.
        kept: name -> version of the packages that are shared with the interpreter. These are not
            installed, and the others may be older than pinned where that fits them better.

    Returns:
        Lines of a requirements file.
    """
    lines = [tensorflow] if tensorflow else []
    for requirement in pinned:
        replaced = tensorflow and requirement.name == 'tensorflow'
        if not replaced and not any(
                build in kept for build in _BUILDS.get(requirement.name, (requirement.name,))):
            lines.append(requirement.line.replace('==', '<=', 1) if kept else requirement.line)
    return lines


def constraints(
    limits: List[Requirement], pinned: List[Requirement], kept: Dict[str, str]
) -> List[str]:
    """Chooses the versions of what comes along with the requirements.

    Args:
        limits: constraints.txt.
        pinned: requirements.txt; none of these that is kept gets replaced.
        kept: as for ``select``.

    Returns:
        Lines of a constraints file.
    """
    lines = [limit.line for limit in limits if limit.name not in kept]
    names = sorted({requirement.name for requirement in pinned} - {'tensorflow'})
    return lines + ['%s==%s' % (name, kept[name]) for name in names if name in kept]


def modules(pinned: List[Requirement]) -> List[str]:
    """Lists the modules that the requirements are imported as."""
    return sorted({_MODULES.get(requirement.name, requirement.name) for requirement in pinned})
