"""Adds Horovod to a .venv that is ready otherwise: ``make setup-horovod``.

Horovod has no wheels: it is compiled against the TensorFlow of .venv, with Gloo for the exchange,
which needs nothing of the system. Where the interpreter brings a Horovod of its own, as NVIDIA's
containers do, that one is used.
"""

import hashlib
import importlib.util
import os
from typing import Dict

from tools.setup_env import requirements, system
from tools.setup_env.environment import Environment, say
from tools.setup_env.plan import (
    ROOT,
    STATE,
    VENV,
    VENV_PYTHON,
    SetupError,
    forget,
    read_stamp,
    recall,
    remember,
)

_REQUIREMENTS = ROOT / 'requirements-horovod.txt'
# Variables that shape the build, such as HOROVOD_GPU_OPERATIONS=NCCL; others are for running it.
_BUILD_VARIABLES = ('HOROVOD_WITH', 'HOROVOD_GPU', 'HOROVOD_CUDA', 'HOROVOD_NCCL')
_DEFAULTS = {'HOROVOD_WITH_TENSORFLOW': '1', 'HOROVOD_WITHOUT_PYTORCH': '1',
             'HOROVOD_WITHOUT_MXNET': '1', 'HOROVOD_WITH_GLOO': '1'}
_TRY = ('import horovod.tensorflow as hvd, sys; '
        'sys.exit(None if hvd.gloo_built() or hvd.mpi_built() else "built without Gloo and MPI")')


def complete(environment: Environment) -> None:
    """Brings Horovod into .venv; where it is up to date, that takes no time.

    Args:
        environment: .venv, ready otherwise.

    Raises:
        SetupError: when something is missing or fails.
    """
    options = _options()
    if recall('horovod') == _stamp(options) and importlib.util.find_spec('horovod'):
        return
    forget('horovod')
    shared = environment.shared_packages()
    if 'horovod' not in shared:
        _build(environment, options, shared)
    _check(environment, shared)
    remember('horovod_options', ['%s=%s' % option for option in sorted(options.items())])
    remember('horovod', [_stamp(options)])


def _options() -> Dict[str, str]:
    """The build variables that are set; those of the last build where none is."""
    given = {name: value for name, value in os.environ.items() if name.startswith(_BUILD_VARIABLES)}
    return given or dict(line.split('=', 1) for line in recall('horovod_options').splitlines())


def _stamp(options: Dict[str, str]) -> str:
    """Digest of what the build depends on."""
    parts = [*read_stamp(), *('%s=%s' % option for option in sorted(options.items()))]
    return hashlib.sha256(_REQUIREMENTS.read_bytes() + '\0'.join(parts).encode()).hexdigest()


def _build(environment: Environment, options: Dict[str, str], shared: Dict[str, str]) -> None:
    system.check_compiler()
    pinned = requirements.read(_REQUIREMENTS)
    source = next(each.line for each in pinned if each.name == 'horovod')
    say('building %s, which takes about five minutes (log: .venv/setup/log)' % source)
    others = [each for each in pinned if each.line != source]
    remember('requirements-horovod.txt', requirements.select(others, '', shared))
    environment.pip('install', '-r', str(STATE / 'requirements-horovod.txt'),
                    '-c', str(STATE / 'constraints.txt'))
    # Not from pip's cache: what lies there may have been built against another TensorFlow. Without
    # isolation, because the build asks the TensorFlow of .venv how it was compiled.
    environment.pip('install', '--no-cache-dir', '--no-binary=horovod', '--no-build-isolation',
                    '--no-deps', '--force-reinstall', source, **_build_variables(options))


def _build_variables(options: Dict[str, str]) -> Dict[str, str]:
    variables = {**_DEFAULTS, **options}
    if 'HOROVOD_WITH_MPI' not in options:
        variables['HOROVOD_WITHOUT_MPI'] = '1'
    # Of its own accord it starts eight compilers, which small machines have no memory for; and what
    # make hands down speaks of the project's Makefile.
    return {'HOROVOD_CMAKE': str(VENV / 'bin' / 'cmake'),
            'MAKEFLAGS': '-j%d' % (os.cpu_count() or 1), **variables}


def _check(environment: Environment, shared: Dict[str, str]) -> None:
    try:
        environment.run(str(VENV_PYTHON), '-c', _TRY)
    except SetupError as error:
        origin = 'of the interpreter' if 'horovod' in shared else 'just built'
        raise SetupError('the Horovod %s does not work with the TensorFlow of .venv: %s'
                         % (origin, error)) from None
