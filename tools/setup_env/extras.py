"""Adds packages that not everybody needs to a .venv that is ready otherwise.

``make setup-tools`` adds those of requirements-tools.txt, ``make fuzz`` those of
requirements-fuzz.txt.
"""

import hashlib

from tools.setup_env import requirements
from tools.setup_env.environment import Environment, say
from tools.setup_env.plan import ROOT, STATE, SetupError, read_stamp, recall, remember


def complete(environment: Environment, name: str) -> None:
    """Brings the packages of ``requirements-<name>.txt`` into .venv.

    Where they are up to date, that takes no time.

    Args:
        environment: .venv, ready otherwise.
        name: of the requirements file.

    Raises:
        SetupError: a package cannot be had.
    """
    path = ROOT / ('requirements-%s.txt' % name)
    parts = path.read_bytes() + '\0'.join(read_stamp()).encode()
    stamp = hashlib.sha256(parts).hexdigest()
    if recall(name) == stamp:
        return
    say('installing the packages of %s (log: .venv/setup/log)' % path.name)
    selected = requirements.select(requirements.read(path), '', environment.shared_packages())
    remember(path.name, selected)
    environment.pip('install', '-r', str(STATE / path.name),
                    '-c', str(STATE / 'constraints.txt'))
    remember(name, [stamp])


def try_to_complete(environment: Environment, name: str, without: str) -> None:
    """Does the same where the packages can be had; where not, a line says what goes on without.

    Args:
        environment: .venv, ready otherwise.
        name: of the requirements file.
        without: what is done without the packages, ``fuzzing without Atheris``.
    """
    try:
        complete(environment, name)
    except SetupError as error:
        say('%s, which cannot be installed: %s' % (without, error))
