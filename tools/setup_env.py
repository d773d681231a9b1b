"""Creates .venv with TensorFlow, the pinned packages and the pse extension; or .venv-detect.

``make setup`` runs this with the interpreter chosen by tools/find_python.sh. It imports only the
standard library, as no package is installed at that time. An argument adds a group of packages:
tools, fuzz or horovod. The state of .venv is recorded in ``.venv/setup``; the stamp of a group is
removed before anything changes and written last, so that an incomplete environment is recognised.

With the argument detect it creates .venv-detect instead, for detection alone, with the newest
packages for the running interpreter.

If the interpreter has TensorFlow 1.15 (containers for NVIDIA GPUs and Ascend NPUs), .venv shares
its packages and adds only the missing ones.
"""

import contextlib
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import Dict, Iterator, List

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ('.venv-detect' if sys.argv[1:] == ['detect'] else '.venv')
STATE = VENV / 'setup'
PYTHON = str(VENV / 'bin' / 'python')

# Distributions that provide the same package, of which only one can be installed.
BUILDS = {
    'tensorflow': ('tensorflow', 'tensorflow-gpu', 'tensorflow-cpu', 'intel-tensorflow',
                   'nvidia-tensorflow'),
    'opencv-python': ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python',
                      'opencv-contrib-python-headless')}
# Module names that differ from the name of the distribution.
MODULES = {'absl-py': 'absl', 'opencv-python': 'cv2', 'pillow': 'PIL',
           'polygon3': 'Polygon', 'protobuf': 'google.protobuf'}
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        sys.exit('%s cannot be imported: %s' % (name, error))
"""
# Variables that configure Horovod's build, such as HOROVOD_GPU_OPERATIONS=NCCL.
HOROVOD_VARIABLES = ('HOROVOD_WITH', 'HOROVOD_GPU', 'HOROVOD_CUDA', 'HOROVOD_NCCL')
TRY_HOROVOD = ('import horovod.tensorflow as hvd, sys; sys.exit('
               'None if hvd.gloo_built() or hvd.mpi_built() else "built without Gloo and MPI")')


class SetupError(Exception):
    """The environment cannot be created."""


def main(group: str = '') -> int:
    """Brings .venv and one group of packages up to date; returns the exit code."""
    try:
        with _lock():
            if group == 'detect':
                _make_detect()
                return 0
            tensorflow = _wanted_tensorflow()
            if not _is_ready(tensorflow):
                _make(tensorflow)
            if group == 'horovod':
                _add_horovod()
            elif group:
                _add(group)
        return 0
    except (SetupError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('error: setup was interrupted; run it again', file=sys.stderr)
        return 130


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Locks the project directory; child processes that change .venv inherit the lock."""
    descriptor = os.open(str(ROOT), os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print('setup: waiting for another setup of this project', flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def _wanted_tensorflow() -> str:
    """Returns the requirement in TF, else the one of the existing .venv; '' for the pinned one."""
    wanted = os.environ.get('TF', '')
    if not wanted:
        return _recall('tensorflow') if sys.executable == _recall('python') else ''
    is_wheel = wanted.endswith('.whl') and os.path.isfile(wanted)
    if not is_wheel and not re.match(r'[\w.-]+==1\.15\.[\w.+]+$', wanted):
        raise SetupError(f'TF={wanted} must be a TensorFlow 1.15 such as intel-tensorflow==1.15.2, '
                         'or the path of a wheel')
    return wanted


def _is_ready(tensorflow: str) -> bool:
    module = ROOT / 'pse' / ('_pse' + importlib.machinery.EXTENSION_SUFFIXES[0])
    sources = [ROOT / 'pse' / 'pse.cpp', ROOT / 'pse' / 'Makefile']
    return (_is_made(tensorflow) and _recall('packages') == _digest('', '-dev')
            and module.is_file()
            and all(each.stat().st_mtime <= module.stat().st_mtime for each in sources))


def _is_made(tensorflow: str) -> bool:
    """Returns True if .venv works and matches this interpreter, TensorFlow and directory."""
    return _recall('made') == _identity(tensorflow) and _runs()


def _runs() -> bool:
    try:
        return subprocess.call([PYTHON, '-c', ''], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _make(tensorflow: str) -> None:
    check_compiler()
    if not _is_made(tensorflow):
        if tensorflow and tensorflow != _recall('tensorflow') and os.path.exists(PYTHON):
            # Before .venv is removed, so that an unavailable TensorFlow changes nothing.
            _pip('download', '--no-deps', '--dest', str(STATE / 'download'), tensorflow)
        _make_venv(tensorflow)
    if _recall('packages') != _digest('', '-dev'):
        _forget('packages')
        _say(f'installing packages{tensorflow and " with " + tensorflow}, which takes minutes '
             '(log: .venv/setup/log)')
        _install(['', '-dev'], tensorflow)
        names = [name_of(line) for line in read_requirements(ROOT / 'requirements.txt')]
        try:
            _run(PYTHON, '-c', IMPORT_ALL, *sorted({MODULES.get(name, name) for name in names}))
        except SetupError as error:
            raise SetupError(f'{error}{advice_on_import(str(error))}') from None
        _remember('packages', _digest('', '-dev'))
    _build_pse()


def _build_pse() -> None:
    _say('building pse')
    _run('make', '-s', '-C', str(ROOT / 'pse'), f'PYTHON={PYTHON}')


def _make_detect() -> None:
    """Brings .venv-detect up to date."""
    check_compiler()
    files = ['requirements-detect.txt', 'requirements-detect-dev.txt']
    contents = b'\0'.join((ROOT / name).read_bytes() for name in files)
    stamp = f'{_identity("detect")} {hashlib.sha256(contents).hexdigest()}'
    if _recall('made') != stamp or not _runs():
        _say(f'creating .venv-detect with {sys.executable}, Python {sys.version.split()[0]}')
        clear(VENV)
        _run(sys.executable, '-m', 'venv', str(VENV))
        _say('installing packages for detection (log: .venv-detect/setup/log)')
        _run(PYTHON, '-m', 'pip', '--no-input', 'install',
             *(part for name in files for part in ('-r', str(ROOT / name))))
        _remember('made', stamp)
    _build_pse()


def _make_venv(tensorflow: str) -> None:
    directories = [path for path in sys.path if os.path.isdir(path) and os.path.basename(path) in (
        'site-packages', 'dist-packages')] if _has_tensorflow() else []
    _say(f'creating .venv with {sys.executable}, Python {sys.version.split()[0]}'
         + ' and its packages' * bool(directories))
    clear(VENV)
    # --system-site-packages does not share the packages of a virtual environment.
    is_virtual = sys.prefix != sys.base_prefix
    options = ['--system-site-packages'] if directories and not is_virtual else []
    if importlib.util.find_spec('ensurepip') is None:
        options.append('--without-pip')
    _remember('python', sys.executable)
    _remember('tensorflow', tensorflow)
    _remember('shared', '\n'.join(directories))
    _run(sys.executable, '-m', 'venv', *options, str(VENV))
    if directories and is_virtual:
        for packages in VENV.glob('lib/python*/site-packages'):
            (packages / 'shared.pth').write_text(
                ''.join(f'import site; site.addsitedir({path!r})\n' for path in directories))
    if [int(part) for part in _pip('--version').split()[1].split('.')[:2]] < [20, 3]:
        # Older versions lack support for today's wheel tags and a dependency resolver.
        _pip('install', '--upgrade', 'pip<24.1')
    _remember('made', _identity(tensorflow))


def clear(venv: pathlib.Path) -> None:
    """Empties a directory; a link to another directory is kept."""
    if not venv.is_dir():
        with contextlib.suppress(FileNotFoundError):
            venv.unlink()
        return
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def _install(files: List[str], tensorflow: str = '') -> None:
    """Installs requirements<file>.txt for each file, within constraints.txt."""
    kept = _shared_packages()
    lines = [line for each in files for line in read_requirements(ROOT / f'requirements{each}.txt')]
    limits = read_requirements(ROOT / 'constraints.txt')
    _remember('requirements.txt', '\n'.join(select(lines, tensorflow, kept)))
    _remember('constraints.txt', '\n'.join(constraints(limits, lines, kept)))
    _pip('install', '-r', str(STATE / 'requirements.txt'), '-c', str(STATE / 'constraints.txt'))


def read_requirements(path: pathlib.Path) -> List[str]:
    """Reads the requirements in a file, without comments and options such as ``-c``."""
    lines = [line.split('#')[0].strip() for line in path.read_text(encoding='utf-8').splitlines()]
    return [line for line in lines if line and not line.startswith('-')]


def select(lines: List[str], tensorflow: str, kept: Dict[str, str]) -> List[str]:
    """Selects the requirements to install.

    Args:
        lines: requirements.
        tensorflow: requirement that replaces the pinned TensorFlow; '' for the pinned one.
        kept: name -> version of the packages shared with the interpreter. These are not installed,
            and the others may be older than pinned to be compatible with them.

    Returns:
        Lines of a requirements file.
    """
    chosen = [tensorflow] if tensorflow else []
    for line in lines:
        name = name_of(line)
        if name == 'tensorflow' and tensorflow:
            continue
        if not any(build in kept for build in BUILDS.get(name, (name,))):
            chosen.append(line.replace('==', '<=', 1) if kept else line)
    return chosen


def constraints(limits: List[str], lines: List[str], kept: Dict[str, str]) -> List[str]:
    """Returns constraints on dependencies, which also keep the shared packages."""
    names = sorted({name_of(line) for line in lines} - {'tensorflow'})
    return ([limit for limit in limits if name_of(limit) not in kept]
            + [f'{name}=={kept[name]}' for name in names if name in kept])


def name_of(requirement: str) -> str:
    """Returns the normalized name (PEP 503) in a requirement or in the path of a wheel."""
    if requirement.endswith('.whl'):
        requirement = pathlib.PurePath(requirement).name.split('-')[0]
    return re.sub(r'[-_.]+', '-', re.match(r'[\w.-]*', requirement).group()).lower()


def _shared_packages() -> Dict[str, str]:
    """Returns name -> version of the packages that .venv shares with its interpreter."""
    directories = _recall('shared').splitlines()
    if not directories:
        return {}
    printed = _pip('list', '--format=json',
                   *(option for path in directories for option in ('--path', path)))
    listed = json.loads(next(line for line in printed.splitlines() if line.startswith('[')))
    return {name_of(each['name']): each['version'] for each in listed}


def _add(group: str) -> None:
    """Installs requirements-<group>.txt; Atheris for fuzzing is optional."""
    stamp = _digest(f'-{group}') + _recall('made')
    if _recall(group) == stamp:
        return
    _say(f'installing the packages of requirements-{group}.txt (log: .venv/setup/log)')
    try:
        _install([f'-{group}'])
        _remember(group, stamp)
    except SetupError as error:
        if group != 'fuzz':
            raise
        _say(f'continuing without Atheris, which cannot be installed: {error}')


def _add_horovod() -> None:
    """Builds Horovod for the TensorFlow of .venv with Gloo, which needs no system packages.

    A Horovod shared with the interpreter, as in NVIDIA's containers, is used unchanged.
    """
    given = {name: value for name, value in os.environ.items()
             if name.startswith(HOROVOD_VARIABLES)}
    options = json.dumps(given, sort_keys=True) if given else _recall('horovod_options') or '{}'
    stamp = _digest('-horovod') + _recall('made') + options
    if _recall('horovod') == stamp:
        return
    _forget('horovod')
    shared = 'horovod' in _shared_packages()
    if not shared:
        check_compiler()
        lines = read_requirements(ROOT / 'requirements-horovod.txt')
        source = next(line for line in lines if name_of(line) == 'horovod')
        _say(f'building {source}, which takes about five minutes (log: .venv/setup/log)')
        for line in lines:
            if line != source:
                _pip('install', line, '-c', str(STATE / 'constraints.txt'))
        variables = {'HOROVOD_WITH_TENSORFLOW': '1', 'HOROVOD_WITHOUT_PYTORCH': '1',
                     'HOROVOD_WITHOUT_MXNET': '1', 'HOROVOD_WITH_GLOO': '1',
                     'HOROVOD_CMAKE': str(VENV / 'bin' / 'cmake'),
                     # The default of eight compilers needs too much memory on small machines.
                     'MAKEFLAGS': f'-j{os.cpu_count() or 1}', **json.loads(options)}
        if 'HOROVOD_WITH_MPI' not in variables:
            variables['HOROVOD_WITHOUT_MPI'] = '1'
        # A cached build may be for another TensorFlow; an isolated build would not find any.
        _pip('install', '--no-cache-dir', '--no-binary=horovod', '--no-build-isolation',
             '--no-deps', '--force-reinstall', source, **variables)
    try:
        _run(PYTHON, '-c', TRY_HOROVOD)
    except SetupError as error:
        origin = 'of the interpreter' if shared else 'just built'
        raise SetupError(f'the Horovod {origin} does not work with the TensorFlow of .venv: '
                         f'{error}') from None
    _remember('horovod_options', options)
    _remember('horovod', stamp)


def check_compiler() -> None:
    """Checks for the tools that build pse.

    Raises:
        SetupError: something is missing; the message names the system package.
    """
    compiler = os.environ.get('CXX', 'g++').split()[0]
    missing = [name for name in (compiler, 'make') if shutil.which(name) is None]
    if missing:
        raise SetupError(f'missing: {" and ".join(missing)}; install with apt-get install '
                         'build-essential (Debian, Ubuntu) or yum install gcc-c++ make (CentOS, '
                         'openEuler)')
    headers = sysconfig.get_path('include')
    if not os.path.isfile(os.path.join(headers, 'Python.h')):
        raise SetupError(f'missing: Python.h in {headers}; install with apt-get install '
                         f'python{sys.version_info[0]}.{sys.version_info[1]}-dev (Debian, Ubuntu) '
                         'or yum install python3-devel (CentOS, openEuler)')


def advice_on_import(message: str) -> str:
    """Returns installation advice if a module cannot be imported without a system library."""
    if any(library in message for library in ('libGL.so', 'libgthread', 'libglib')):
        return ('\nOpenCV needs system libraries; install with apt-get install libgl1 '
                'libglib2.0-0 (Debian, Ubuntu) or yum install mesa-libGL glib2 (CentOS, openEuler)')
    return ''


def _has_tensorflow() -> bool:
    """Returns True if this interpreter can import TensorFlow 1.15."""
    # Only TensorFlow 1.15 has this package; importing it takes seconds.
    if importlib.util.find_spec('tensorflow_core') is None:
        return False
    command = [sys.executable, '-c', 'import tensorflow; print(tensorflow.__version__)']
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return ended.stdout.decode().startswith('1.15.')


def _identity(tensorflow: str) -> str:
    """Identifies interpreter, TensorFlow and project path; a change of these recreates .venv."""
    path = pathlib.Path(sys.executable)
    return ' '.join([str(path.parent.resolve()), str(path.resolve()), sys.version.split()[0],
                     str(ROOT), tensorflow or 'pinned'])


def _digest(*files: str) -> str:
    """Hashes constraints.txt and requirements<file>.txt for each file."""
    names = ['constraints.txt', *(f'requirements{each}.txt' for each in files)]
    return hashlib.sha256(b'\0'.join((ROOT / name).read_bytes() for name in names)).hexdigest()


def _pip(*arguments: str, **variables: str) -> str:
    """Runs pip of .venv; if pip is killed, the stamp is missing and .venv is recreated."""
    made = _recall('made')
    _forget('made')
    try:
        return _run(PYTHON, '-m', 'pip', '--no-input', *arguments, **variables)
    finally:
        if made and sys.exc_info()[0] in (None, SetupError):
            _remember('made', made)


def _run(*command: str, **variables: str) -> str:
    """Runs a program, appends its output to the log, and returns the output.

    Args:
        command: the program and its arguments.
        variables: additional environment variables.

    Raises:
        SetupError: it failed; with the command and the last lines of its output.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    # A PIP_USER of the user or a container would install outside .venv.
    environment = dict(os.environ, PIP_USER='0', PIP_DISABLE_PIP_VERSION_CHECK='1', **variables)
    quoted = ' '.join(map(shlex.quote, command))
    with (STATE / 'log').open('ab+') as log:
        log.write(f'$ {quoted}\n'.encode())
        log.flush()
        start = log.tell()
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               env=environment, close_fds=False)
        log.seek(start)
        printed = log.read().decode(errors='replace')
    if code:
        raise SetupError(f'setup failed at this command; its output is in {STATE / "log"} and '
                         f'ends with:\n$ {quoted}\n' + '\n'.join(printed.splitlines()[-12:]))
    return printed


def _recall(name: str) -> str:
    path = STATE / name
    return path.read_text(encoding='utf-8').strip() if path.is_file() else ''


def _remember(name: str, text: str) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    part = STATE / f'{name}.part'
    part.write_text(text, encoding='utf-8')
    part.replace(STATE / name)


def _forget(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        (STATE / name).unlink()


def _say(message: str) -> None:
    print(f'setup: {message}', flush=True)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
