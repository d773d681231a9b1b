"""Adds Atheris, the fuzzer, to a .venv that is ready otherwise: ``make fuzz``."""

import hashlib

from tools.setup_env.environment import Environment, say
from tools.setup_env.plan import ROOT, STATE, SetupError, read_stamp, recall, remember

_REQUIREMENTS = ROOT / 'requirements-fuzz.txt'


def complete(environment: Environment) -> None:
    """Brings Atheris into .venv where there is one for this machine.

    Where it is up to date, that takes no time; where it cannot be had, a line says so, as the fuzz
    targets run without it.

    Args:
        environment: .venv, ready otherwise.
    """
    parts = _REQUIREMENTS.read_bytes() + '\0'.join(read_stamp()).encode()
    stamp = hashlib.sha256(parts).hexdigest()
    if recall('fuzz') == stamp:
        return
    try:
        environment.pip('install', '-r', str(_REQUIREMENTS), '-c', str(STATE / 'constraints.txt'))
    except SetupError as error:
        say('fuzzing without Atheris, which cannot be installed: %s' % error)
        return
    remember('fuzz', [stamp])
