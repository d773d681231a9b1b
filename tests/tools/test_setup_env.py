"""The setup for real, in a small project of its own: pip without a network, packages made here."""

import ast
import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile

import pytest

from tools import setup_env

REQUIREMENTS = 'tensorflow==1.15.0\nthing==1.0\nextra==2.0  # a comment\n'
# Stands for the real pse/Makefile: the same target, no compiler.
PSE_MAKEFILE = """
ASK_SUFFIX := import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))
all:
\ttouch _pse$(shell "$(PYTHON)" -c "$(ASK_SUFFIX)")
sanitize:
"""


def make_wheel(directory, name, version, modules):
    """Writes a wheel of packages (name -> text of __init__.py) into a directory."""
    info = f'{name}-{version}.dist-info'
    files = {f'{module}/__init__.py': text for module, text in modules.items()}
    files[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    files[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    files[f'{info}/RECORD'] = ''.join(f'{path},,\n' for path in [*files, f'{info}/RECORD'])
    with zipfile.ZipFile(str(directory / f'{name}-{version}-py3-none-any.whl'), 'w') as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def make_tensorflow(directory, name, version):
    make_wheel(directory, name, version,
               {'tensorflow': f'__version__ = {version!r}\nBUILD = {name!r}\n',
                'tensorflow_core': ''})


def make_horovod(directory, works=True):
    """Writes a source distribution that keeps the variables it was built with in ``BUILD``."""
    source = directory / 'horovod-0.28.1'
    (source / 'horovod' / 'tensorflow').mkdir(parents=True)
    (source / 'horovod' / '__init__.py').write_text('')
    (source / 'horovod' / 'tensorflow' / '__init__.py').write_text(
        f'from .build import BUILD\ndef gloo_built(): return {works!r}\nmpi_built = gloo_built\n')
    (source / 'setup.py').write_text(
        'import os, setuptools\n'
        'build = {name: value for name, value in os.environ.items() if "HOROVOD" in name}\n'
        'with open("horovod/tensorflow/build.py", "w") as file:\n'
        '    file.write("BUILD = %r" % build)\n'
        'setuptools.setup(name="horovod", version="0.28.1",\n'
        '                 packages=["horovod", "horovod.tensorflow"])\n')
    shutil.make_archive(str(source), 'gztar', str(directory), source.name)
    shutil.rmtree(str(source))


def make_interpreter(directory, *packages):
    """A Python of its own that has these packages only; returns its path."""
    python = os.path.realpath(sys.executable)
    subprocess.run([python, '-m', 'venv', '--without-pip', str(directory)], check=True)
    site_packages = next(directory.glob('lib/python*/site-packages'))
    for package in packages:
        with zipfile.ZipFile(str(package)) as wheel:
            wheel.extractall(str(site_packages))
    return directory / 'bin' / 'python'


class Project:
    """A small project with the real setup scripts."""

    def __init__(self, directory: pathlib.Path, source: pathlib.Path):
        self.root = directory / 'project'
        self.wheels = directory / 'wheels'
        self.wheels.mkdir(parents=True)
        for path in ('Makefile', 'tools/__init__.py', 'tools/find_python.sh', 'tools/setup_env.py'):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(source / path), str(self.root / path))
        self.write('requirements.txt', REQUIREMENTS)
        self.write('requirements-dev.txt', '')
        self.write('constraints.txt', '')
        self.write('requirements-horovod.txt', 'horovod==0.28.1\ncmake==3.31.10\n')
        self.write('pse/pse.cpp', '')
        self.write('pse/Makefile', PSE_MAKEFILE)
        make_tensorflow(self.wheels, 'tensorflow', '1.15.0')
        make_tensorflow(self.wheels, 'intel_tensorflow', '1.15.2')
        for version in ('1.0', '1.1'):
            make_wheel(self.wheels, 'thing', version, {'thing': f'VERSION = {version!r}\n'})
        make_wheel(self.wheels, 'extra', '2.0', {'extra': ''})
        make_wheel(self.wheels, 'cmake', '3.31.10', {'cmake': ''})
        make_horovod(self.wheels)
        self.interpreter = make_interpreter(directory / 'interpreter')

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def start(self, *variables: str, target: str = 'setup') -> subprocess.Popen:
        """Starts ``make setup`` with variables such as ``TF=...``."""
        environment = dict(os.environ, PIP_NO_INDEX='1', PIP_FIND_LINKS=self.wheels.as_uri(),
                           PIP_CONFIG_FILE=os.devnull, PIP_USER='1')
        for name in ('TF', 'PYTHON', 'MAKEFLAGS', 'MAKELEVEL', 'PYTHONPATH',
                     *(name for name in os.environ if name.startswith('HOROVOD'))):
            environment.pop(name, None)
        return subprocess.Popen(
            ['make', target, *variables], cwd=str(self.root), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def setup(self, *variables: str, target: str = 'setup') -> str:
        """Runs ``make setup``, which has to succeed; returns what it printed."""
        process = self.start(*variables, target=target)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        return printed

    def ask(self, expression: str, imports: str = 'extra, tensorflow, thing') -> str:
        """Evaluates an expression in .venv, where all packages are imported."""
        program = f'import {imports}; print({expression})'
        return subprocess.run(
            [str(self.root / '.venv' / 'bin' / 'python'), '-c', program], check=True,
            cwd=str(self.root / 'pse'), stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope='module')
def shared_project(tmp_path_factory):
    """One project for the tests that leave it sound; its interpreter has no packages."""
    source = pathlib.Path(__file__).resolve().parent.parent.parent
    project = Project(tmp_path_factory.mktemp('set up'), source)
    project.setup(f'PYTHON={project.interpreter}')
    return project


@pytest.fixture
def project(shared_project):
    """The project, set up."""
    shared_project.write('requirements.txt', REQUIREMENTS)
    shared_project.setup(f'PYTHON={shared_project.interpreter}', 'TF=tensorflow==1.15.0')
    return shared_project


def test_installs_what_is_pinned(project):
    assert project.ask('thing.VERSION, tensorflow.BUILD') == '1.0 tensorflow'


def test_second_run_does_nothing(project):
    log = project.root / '.venv' / 'setup' / 'log'
    before = log.stat().st_mtime_ns
    assert project.setup() == ''
    assert log.stat().st_mtime_ns == before


def test_makes_an_environment_of_another_python_anew(project, tmp_path):
    shutil.rmtree(str(project.root / '.venv'))
    make_interpreter(project.root / '.venv')
    assert 'creating .venv' in project.setup(f'PYTHON={project.interpreter}')
    assert project.ask('thing.VERSION') == '1.0'
    assert project.setup() == ''


@pytest.mark.parametrize('state', ['missing', 'file', 'dangling link', 'folder', 'link'])
def test_clears_any_environment(tmp_path, state):
    venv = tmp_path / 'venv'
    target = venv if state == 'folder' else tmp_path / 'target'
    if state in ('folder', 'link'):
        (target / 'bin').mkdir(parents=True)
        (target / 'pyvenv.cfg').touch()
    if state in ('link', 'dangling link'):
        venv.symlink_to(str(target))
    if state == 'file':
        venv.touch()
    setup_env.clear(venv)
    assert venv.is_symlink() == (state == 'link')
    assert not venv.exists() or os.listdir(str(venv)) == []


def test_changed_requirements_are_installed_in_place(project):
    project.write('requirements.txt', REQUIREMENTS.replace('thing==1.0', 'thing==1.1'))
    assert 'creating .venv' not in project.setup()
    assert project.ask('thing.VERSION') == '1.1'


@pytest.mark.parametrize('damage', ['missing', 'old'])
def test_builds_pse_again(project, damage):
    module = next((project.root / 'pse').glob('_pse*'))
    if damage == 'missing':
        module.unlink()
    else:
        os.utime(str(project.root / 'pse' / 'pse.cpp'))
        os.utime(str(module), (0, 0))
    printed = project.setup()
    assert 'building pse' in printed
    assert 'installing' not in printed
    assert next((project.root / 'pse').glob('_pse*')).stat().st_mtime > 0


def test_swaps_the_build_of_tensorflow_and_keeps_it(project):
    project.setup('TF=intel-tensorflow==1.15.2')
    assert project.ask('tensorflow.BUILD') == 'intel_tensorflow'
    assert project.setup() == ''
    python = project.root / '.venv' / 'bin' / 'python'
    python.unlink()
    python.symlink_to('/nowhere/python3.7')
    assert 'creating .venv' in project.setup()
    assert project.ask('tensorflow.BUILD') == 'intel_tensorflow'
    project.setup('TF=tensorflow==1.15.0')
    assert project.ask('tensorflow.BUILD') == 'tensorflow'


@pytest.mark.parametrize('wanted', ['intel-tensorflow==1.15.99', 'tensorflow==2.4.0', 'nonsense'])
def test_a_tensorflow_that_cannot_be_had_changes_nothing(project, wanted):
    process = project.start(f'TF={wanted}')
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert wanted in printed
    assert project.setup() == ''
    assert project.ask('tensorflow.BUILD') == 'tensorflow'


def test_two_at_once_set_up_once(project):
    project.write('requirements.txt', REQUIREMENTS.replace('thing==1.0', 'thing==1.1'))
    first, second = project.start(), project.start()
    printed = first.communicate()[0] + second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0), printed
    assert printed.count('installing') == 1


def interrupt(project, how):
    """Starts a setup and ends its whole group while pip is at work."""
    process = project.start()
    log = project.root / '.venv' / 'setup' / 'log'
    deadline = time.time() + 60
    while time.time() < deadline and not (log.is_file() and '-m pip' in log.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, how)
    process.communicate()
    assert process.returncode != 0


def test_begins_again_after_interruptions(project):
    project.write('requirements.txt', REQUIREMENTS.replace('thing==1.0', 'thing==1.1'))
    (project.root / '.venv' / 'setup' / 'made').unlink()
    interrupt(project, signal.SIGINT)
    interrupt(project, signal.SIGKILL)
    assert 'creating .venv' in project.setup()
    assert project.ask('thing.VERSION') == '1.1'


def test_shows_why_pip_failed(project):
    project.write('requirements.txt', REQUIREMENTS + 'unobtainable==1.0\n')
    process = project.start()
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert 'No matching distribution found for unobtainable==1.0' in printed


def test_shares_the_packages_of_a_container(tmp_path, project_root):
    project = Project(tmp_path, project_root)
    make_tensorflow(tmp_path, 'nvidia_tensorflow', '1.15.5')
    make_wheel(tmp_path, 'thing', '0.9', {'thing': 'VERSION = "0.9"\n'})
    make_wheel(tmp_path, 'horovod', '0.21.0', {
        'horovod': '', 'horovod/tensorflow': 'def gloo_built(): return True\n'})
    container = make_interpreter(
        tmp_path / 'container', tmp_path / 'nvidia_tensorflow-1.15.5-py3-none-any.whl',
        tmp_path / 'thing-0.9-py3-none-any.whl', tmp_path / 'horovod-0.21.0-py3-none-any.whl')
    assert 'and its packages' in project.setup(f'PYTHON={container}')
    assert project.ask('thing.VERSION, tensorflow.BUILD') == '0.9 nvidia_tensorflow'
    assert str(tmp_path / 'container') in project.ask('thing.__file__')
    assert str(project.root / '.venv') in project.ask('extra.__file__')
    assert project.setup() == ''
    assert project.setup(target='setup-horovod') == ''
    assert str(tmp_path / 'container') in project.ask('horovod.__file__', 'horovod')


def test_adds_horovod_once(project):
    assert 'building horovod==0.28.1' in project.setup(target='setup-horovod')
    build = ast.literal_eval(project.ask('horovod.tensorflow.BUILD', 'horovod.tensorflow'))
    cmake = build.pop('HOROVOD_CMAKE')
    assert cmake == str(project.root / '.venv' / 'bin' / 'cmake')
    assert set(build) == {'HOROVOD_WITH_TENSORFLOW', 'HOROVOD_WITH_GLOO', 'HOROVOD_WITHOUT_MPI',
                          'HOROVOD_WITHOUT_MXNET', 'HOROVOD_WITHOUT_PYTORCH'}
    assert project.setup(target='setup-horovod') == ''
    assert project.setup() == ''


def test_builds_horovod_again_for_another_tensorflow(project):
    project.setup(target='setup-horovod')
    project.setup('TF=intel-tensorflow==1.15.2')
    assert 'building horovod' in project.setup(target='setup-horovod')


def test_horovod_is_built_as_the_user_wants_it_and_stays_so(project):
    wanted = ('HOROVOD_GPU_OPERATIONS=NCCL', 'HOROVOD_WITH_MPI=1')
    assert 'building horovod' in project.setup(*wanted, target='setup-horovod')
    build = ast.literal_eval(project.ask('horovod.tensorflow.BUILD', 'horovod.tensorflow'))
    assert build['HOROVOD_GPU_OPERATIONS'] == 'NCCL'
    assert 'HOROVOD_WITHOUT_MPI' not in build
    assert project.setup(target='setup-horovod') == ''


def test_a_horovod_that_does_not_work_is_said(project):
    make_horovod(project.wheels, works=False)
    with contextlib.suppress(FileNotFoundError):
        (project.root / '.venv' / 'setup' / 'horovod').unlink()
    process = project.start(target='setup-horovod')
    printed, _ = process.communicate()
    make_horovod(project.wheels)
    assert process.returncode != 0
    assert 'error: the Horovod just built does not work' in printed
    assert 'built without Gloo and MPI' in printed


def test_keeps_what_is_shared_and_relaxes_the_rest():
    names = ('tensorflow', 'numpy', 'a')
    pinned = [f'{name}==1.0' for name in names]
    kept = {'nvidia-tensorflow': '1.15.5', 'numpy': '0.9', 'other': '3'}
    assert setup_env.select(pinned, '', kept) == ['a<=1.0']
    assert setup_env.select(pinned, 'x==1.15.1', kept) == ['x==1.15.1', 'a<=1.0']
    limits = ['other==4', 'b==5']
    assert setup_env.constraints(limits, pinned, kept) == ['b==5', 'numpy==0.9']


def test_every_requirement_is_pinned(project_root):
    for path in [project_root / 'constraints.txt', *project_root.glob('requirements*.txt')]:
        if 'detect' in path.name:
            continue    # for six Pythons, each with the newest that serves it
        for line in setup_env.read_requirements(path):
            assert re.match(r'[\w-]+==[\d.]+(post\d)?(;|$)', line)


def imported_modules(directory, skipped):
    """Top-level names that the Python files below a directory import, but not from the project."""
    names = set()
    files = [path for path in directory.rglob('*.py')
             if not skipped & set(path.relative_to(directory).parts)]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split('.')[0])
    packages = {path.parent.name for path in files if path.name == '__init__.py'}
    own = {path.stem for path in files} | {path.name for path in directory.iterdir()}
    return names - own - packages


def is_standard(module):
    spec = importlib.util.find_spec(module)
    library = sysconfig.get_path('stdlib')
    return spec is not None and (spec.origin in (None, 'built-in') or (
        spec.origin.startswith(library) and 'site-packages' not in spec.origin))


@pytest.mark.parametrize(('skipped', 'files'), [
    ({'.venv', '.venv-detect', 'tests'}, [
        'requirements.txt', 'requirements-horovod.txt', 'requirements-tools.txt']),
    ({'.venv', '.venv-detect'}, [
        'requirements.txt', 'requirements-horovod.txt', 'requirements-tools.txt',
        'requirements-dev.txt', 'requirements-fuzz.txt']),
], ids=['runtime', 'tests'])
def test_every_import_is_pinned(project_root, skipped, files):
    pinned = [line for name in files for line in setup_env.read_requirements(project_root / name)]
    names = [setup_env.name_of(line) for line in pinned]
    known = {setup_env.MODULES.get(name, name).split('.')[0] for name in names}
    known.add('tensorboard')  # comes with tensorflow
    known |= {'npu_bridge', 'hccl'}  # come with Ascend's CANN, and are on no index
    modules = imported_modules(project_root, skipped)
    assert {name for name in modules - known if not is_standard(name)} == set()


@pytest.mark.parametrize(('requirement', 'words'), [
    ('thing==1.0', []),
    ('unobtainable==1.0', ['without Atheris, which cannot be installed', 'unobtainable']),
])
def test_fuzzing_needs_no_more_than_can_be_had(project, requirement, words):
    project.write('requirements-fuzz.txt', requirement)
    project.write('tests/fuzz/__main__.py', 'print("the fuzz targets run")')
    printed = project.setup(target='fuzz')
    assert printed.endswith('the fuzz targets run\n')
    assert all(word in printed for word in words)
    assert bool(words) == ('without' in printed)


def test_packages_of_the_tools_are_added(project):
    project.write('requirements-tools.txt', 'more==1.0')
    process = project.start(target='setup-tools')
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert 'setup failed at this command' in printed
    assert 'more==1.0' in printed
    make_wheel(project.wheels, 'more', '1.0', {'more': ''})
    assert 'installing the packages of requirements-tools.txt' in project.setup(
        target='setup-tools')
    assert project.ask('more.__name__', imports='more') == 'more'
    assert project.setup(target='setup-tools') == ''


def test_names_the_missing_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(setup_env.SetupError, match=r'missing: \S+ and make; .*build-ess'):
        setup_env.check_compiler()


def test_names_the_missing_headers(monkeypatch):
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: '/nowhere')
    with pytest.raises(setup_env.SetupError, match=r'Python.h in /nowhere; .*python3.*-dev'):
        setup_env.check_compiler()


def test_names_the_libraries_of_opencv():
    assert 'libgl1' in setup_env.advice_on_import('cv2: libGL.so.1: cannot open shared object file')
    assert setup_env.advice_on_import('cv2: No module named cv2') == ''


def test_help_names_every_target(project_root):
    printed = subprocess.run(['make', 'help'], cwd=str(project_root), check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    targets = re.findall(r'^([\w-]+):', (project_root / 'Makefile').read_text(), re.MULTILINE)
    assert {'help', 'setup', 'setup-horovod', 'setup-tools', 'setup-browser', 'demo', 'tools-demo',
            'test', 'test-distributed', 'fuzz', 'lint', 'bench', 'clean'} <= set(targets)
    assert all(re.search(rf'^  make {target} +\S', printed, re.MULTILINE) for target in targets)
