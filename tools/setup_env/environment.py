"""Changes .venv: makes it, shares a container's packages with it, installs what is missing."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, List

from tools.setup_env import requirements, system
from tools.setup_env.plan import (
    ROOT,
    STATE,
    VENV,
    VENV_PYTHON,
    Plan,
    SetupError,
    forget,
    read_stamp,
    recall,
    remember,
    runs,
    stamp_of,
)

# Older ones know neither the tags of today's wheels nor how to settle conflicts.
_OLDEST_PIP = (20, 3)

_IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        sys.exit('%s cannot be imported: %s' % (name, error))
"""


def say(message: str) -> None:
    """Tells a person what the set-up is at."""
    print('set-up: %s' % message, flush=True)


def clear(venv: pathlib.Path) -> None:
    """Empties the folder; a link to a folder elsewhere stays a link."""
    if not venv.is_dir():
        with contextlib.suppress(FileNotFoundError):
            venv.unlink()
        return
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


class Environment:
    """.venv, in whatever state it is.

    Args:
        plan: what it is to be.
        lock: descriptor that every program inherits that changes .venv, so that one which outlives
            a killed set-up keeps the next one waiting.
    """

    def __init__(self, plan: Plan, lock: int):
        self._plan = plan
        self._lock = lock

    def complete(self) -> None:
        """Brings .venv and pse to what the plan says.

        Raises:
            SetupError: when something is missing or fails.
        """
        system.check_compiler()
        stamp = stamp_of(self._plan)
        if read_stamp().environment != stamp.environment or not runs():
            self._make()
        if read_stamp().packages != stamp.packages:
            self._install()
        say('building pse')
        self.run('make', '-s', '-C', str(ROOT / 'pse'), 'PYTHON=%s' % VENV_PYTHON)
        remember('stamp', list(stamp))

    def _make(self) -> None:
        folders = system.site_folders() if system.has_tensorflow() else []
        say('making .venv with %s, Python %s%s' % (
            self._plan.interpreter, sys.version.split()[0], ' and its packages' * bool(folders)))
        clear(VENV)
        remember('python', [self._plan.interpreter])
        remember('tensorflow', [self._plan.tensorflow])
        remember('shared', folders)
        # The packages of an interpreter that is a virtual environment itself are shared by hand.
        is_virtual = sys.prefix != sys.base_prefix
        options = ['--system-site-packages'] if folders and not is_virtual else []
        if importlib.util.find_spec('ensurepip') is None:
            options.append('--without-pip')
        self.run(sys.executable, '-m', 'venv', *options, str(VENV))
        if folders and is_virtual:
            _share(folders)

    def _install(self) -> None:
        say('installing packages%s, which takes minutes (log: .venv/setup/log)' % (
            self._plan.tensorflow and ' with ' + self._plan.tensorflow))
        pinned = requirements.read(ROOT / 'requirements.txt')
        tools = requirements.read(ROOT / 'requirements-dev.txt')
        limits = requirements.read(ROOT / 'constraints.txt')
        self._update_pip()
        kept = self.shared_packages()
        selected = requirements.select(pinned, self._plan.tensorflow, kept)
        self._make_way_for_tensorflow(selected)
        remember('requirements.txt', selected + [tool.line for tool in tools])
        remember('constraints.txt', requirements.constraints(limits, pinned, kept))
        self.pip('install', '-r', str(STATE / 'requirements.txt'),
                  '-c', str(STATE / 'constraints.txt'))
        self._check_imports(requirements.modules(pinned))

    def _update_pip(self) -> None:
        version = self.pip('--version').split()[1]
        if tuple(int(part) for part in version.split('.')[:2]) < _OLDEST_PIP:
            self.pip('install', '--upgrade', 'pip<24.1')

    def _make_way_for_tensorflow(self, selected: List[str]) -> None:
        """Removes other builds of TensorFlow, once it is sure that one asked for can be had."""
        builds = {requirements.distribution_name(line): line for line in selected}
        builds = {name: builds[name] for name in requirements.TENSORFLOW_BUILDS if name in builds}
        others = [name for name in self._packages('--local')
                  if name in requirements.TENSORFLOW_BUILDS and name not in builds]
        if self._plan.tensorflow != recall('tensorflow'):
            with tempfile.TemporaryDirectory() as folder:
                self.pip('download', '--no-deps', '--dest', folder, *builds.values())
        forget('stamp')
        remember('tensorflow', [self._plan.tensorflow])
        if others:
            self.pip('uninstall', '--yes', *others)

    def shared_packages(self) -> Dict[str, str]:
        """Name -> version of the packages that .venv shares with its interpreter."""
        folders = recall('shared').splitlines()
        options = [option for folder in folders for option in ('--path', folder)]
        return self._packages(*options) if folders else {}

    def _packages(self, *options: str) -> Dict[str, str]:
        """Name -> version of installed packages; options are those of ``pip list``."""
        printed = self.pip('list', '--format=json', *options)
        listed = json.loads(next(line for line in printed.splitlines() if line.startswith('[')))
        return {requirements.normalize(each['name']): each['version'] for each in listed}

    def _check_imports(self, modules: List[str]) -> None:
        try:
            self.run(str(VENV_PYTHON), '-c', _IMPORT_ALL, *modules)
        except SetupError as error:
            raise SetupError('%s%s' % (error, system.advice_on_import(str(error)))) from None

    def pip(self, *arguments: str, **variables: str) -> str:
        """Runs pip of .venv; the rest is as for ``run``."""
        return self.run(str(VENV_PYTHON), '-m', 'pip', '--no-input', *arguments, **variables)

    def run(self, *command: str, **variables: str) -> str:
        """Runs a program with its messages in the log.

        Args:
            command: the program and its arguments.
            variables: what it finds in its environment besides.

        Returns:
            What it printed.

        Raises:
            SetupError: it failed; with the command and the last lines of its messages.
        """
        STATE.mkdir(parents=True, exist_ok=True)
        # A person's or a container's PIP_USER would install elsewhere than into .venv.
        environment = dict(os.environ, PIP_USER='0', PIP_DISABLE_PIP_VERSION_CHECK='1',
                           **variables)
        with (STATE / 'log').open('ab+') as log:
            log.write(('$ %s\n' % ' '.join(map(shlex.quote, command))).encode())
            log.flush()
            start = log.tell()
            code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=environment, pass_fds=[self._lock])
            log.seek(start)
            printed = log.read().decode(errors='replace')
        if code:
            raise SetupError('set-up failed at this command; its messages are in %s, and end so:\n'
                             '$ %s\n%s' % (STATE / 'log', ' '.join(map(shlex.quote, command)),
                                           '\n'.join(printed.splitlines()[-12:])))
        return printed


def _share(folders: List[str]) -> None:
    """Lets .venv import packages from other folders, their .pth files included."""
    lines = ['import site; site.addsitedir(%r)\n' % folder for folder in folders]
    for packages in VENV.glob('lib/python*/site-packages'):
        (packages / 'shared.pth').write_text(''.join(lines), encoding='utf-8')
