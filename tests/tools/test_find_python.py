"""The search for a Python: its order, and what it says; the interpreters are stand-ins."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

GOOD = 'echo ok'
FAILING_SHIM = 'echo "pyenv: python3.7: command not found" >&2; exit 127'
WRONG_VERSION = 'echo "is Python 3.8 without TensorFlow 1.15"'
# A Python 3.7 without TensorFlow: does not do where that is asked for.
PLAIN = 'case "$*" in *" tensorflow") echo "is without TensorFlow 1.15";; *) echo ok;; esac'


class Machine:
    """A machine that has nothing but what a test puts there."""

    def __init__(self, directory: pathlib.Path, project_root: pathlib.Path):
        self.directory = directory
        self.bin = directory / 'bin'
        self.bin.mkdir()
        for name in ('bash', 'awk', 'sort', 'tail', 'dirname', 'cat'):
            (self.bin / name).symlink_to(shutil.which(name))
        (directory / 'project' / 'tools').mkdir(parents=True)
        self.script = directory / 'project' / 'tools' / 'find_python.sh'
        shutil.copy(str(project_root / 'tools' / 'find_python.sh'), str(self.script))

    def add(self, path: str, body: str) -> str:
        """Writes an executable; returns its path."""
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\n{body}\n')
        file.chmod(0o755)
        return str(file)

    def find(self, **variables: str) -> subprocess.CompletedProcess:
        """Runs the search with these variables in the environment."""
        environment = {'PATH': str(self.bin), 'HOME': str(self.directory / 'home')}
        environment.update(variables)
        return subprocess.run(['bash', str(self.script)], env=environment, capture_output=True,
                              text=True, check=False)


@pytest.fixture
def machine(tmp_path, project_root):
    return Machine(tmp_path, project_root)


def add_everywhere(machine):
    """Puts a Python at every place of the search; returns the paths in the documented order."""
    machine.add('bin/uv', f'echo {machine.directory}/uv/bin/python3.7')
    machine.add('bin/conda',
                f'echo "# conda environments:"; echo "psenet  {machine.directory}/conda"')
    return [
        machine.add('given/python', PLAIN),
        machine.add('bin/python3', GOOD),
        machine.add('bin/python3.7', PLAIN),
        machine.add('home/.pyenv/versions/3.7.16/bin/python', PLAIN),
        machine.add('home/.pyenv/versions/3.7.9/bin/python', PLAIN),
        machine.add('conda/bin/python', PLAIN),
        machine.add('uv/bin/python3.7', PLAIN),
    ]


def test_order(machine):
    places = add_everywhere(machine)
    assert machine.find(PYTHON=places[0]).stdout.strip() == places[0]
    for place in places[1:]:
        assert machine.find().stdout.strip() == place
        os.remove(place)
    assert machine.find().returncode == 1


@pytest.mark.parametrize('body', [FAILING_SHIM, WRONG_VERSION, 'kill -9 $$'])
def test_passes_over_what_does_not_do(machine, body):
    machine.add('shims/python3.7', body)
    good = machine.add('later/python3.7', PLAIN)
    path = f'{machine.directory}/shims:{machine.directory}/later:{machine.bin}'
    assert machine.find(PATH=path).stdout.strip() == good


def test_python3_without_tensorflow_is_not_taken(machine):
    machine.add('bin/python3', PLAIN)
    good = machine.add('bin/python3.7', PLAIN)
    assert machine.find().stdout.strip() == good


@pytest.mark.parametrize(('body', 'reason'), [
    (FAILING_SHIM, 'does not run'), (WRONG_VERSION, 'is Python 3.8 without TensorFlow 1.15')])
def test_unusable_python_that_was_given_ends_the_search(machine, body, reason):
    machine.add('bin/python3.7', PLAIN)
    given = machine.add('given/python', body)
    result = machine.find(PYTHON=given)
    assert (result.returncode, result.stdout) == (1, '')
    assert f'PYTHON={given} {reason}' in result.stderr


def test_given_name_is_looked_for_on_path(machine):
    good = machine.add('bin/mypython', PLAIN)
    assert machine.find(PYTHON='mypython').stdout.strip() == good


def test_own_environment_is_not_its_own_origin(machine):
    own = machine.add('project/.venv/bin/python3.7', GOOD)
    good = machine.add('bin/python3.7', PLAIN)
    path = f'{os.path.dirname(own)}:{machine.bin}'
    assert machine.find(PATH=path).stdout.strip() == good
    assert machine.find(PATH=path, PYTHON=own).stdout.strip() == good


@pytest.mark.skipif(os.path.exists('/opt/conda/bin/python'), reason='/opt/conda has one')
def test_none_found(machine):
    shim = machine.add('bin/python3.7', FAILING_SHIM)
    result = machine.find()
    assert (result.returncode, result.stdout) == (1, '')
    for way in ('pyenv install 3.7', 'conda create -n psenet python=3.7', 'docker run'):
        assert way in result.stderr
    assert f'{shim} does not run' in result.stderr


def test_judges_a_real_interpreter(machine):
    result = machine.find(PYTHON=sys.executable)
    assert result.stdout.strip() == sys.executable, result.stderr


def posing_python(machine, customization, tensorflow):
    """The Python that runs this, as another one: code run at its start, and its tensorflow."""
    packages = machine.directory / 'packages'
    (packages / 'tensorflow_core').mkdir(parents=True)
    (packages / 'tensorflow_core' / '__init__.py').touch()
    (packages / 'tensorflow.py').write_text(tensorflow)
    (packages / 'sitecustomize.py').write_text(f'import sys\n{customization}\n')
    return machine.add('posing/python', f'PYTHONPATH="{packages}" exec "{sys.executable}" "$@"')


@pytest.mark.parametrize(('tensorflow', 'accepted'), [
    ('__version__ = "1.15.5"', True),
    ('__version__ = "2.1.0"', False),
    ('raise ImportError("libcuda.so")', False),
])
def test_python_3_8_needs_its_own_tensorflow(machine, tensorflow, accepted):
    given = posing_python(machine, 'sys.version_info = (3, 8, 10, "final", 0)', tensorflow)
    result = machine.find(PYTHON=given)
    assert (result.returncode == 0) == accepted, result.stderr


def test_python_that_cannot_make_environments(machine):
    given = posing_python(machine, 'sys.version_info = (3, 7, 5, "final", 0); '
                                   'sys.modules.update(ensurepip=None, tensorflow_core=None)', '')
    assert 'install the package python3.7-venv' in machine.find(PYTHON=given).stderr
