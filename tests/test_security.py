"""What the project's code may not do with data from a file or a flag, held by reading all of it."""

import ast
import re

import pytest

from tests.test_architecture import MODULES, PROJECT

# The one use: from the trainer to readers that it has started itself, in a nameless file.
PICKLING = {'utils.data_provider.readers': ['pickled', 'unpickled']}
UNSAFE_MODULES = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'marshal', 'shelve', 'yaml', 'joblib'}
UNSAFE_CALLS = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'tempfile.mktemp',
                'subprocess.getoutput', 'subprocess.getstatusoutput', 'np.fromstring'}
UNSAFE_ARGUMENTS = {'shell', 'allow_pickle'}


def faults_of(source):
    """Lines of a source that import, call or pass what is unsafe."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or '').split('.')[0]}
        elif isinstance(node, ast.Call):
            if name_of(node.func) in UNSAFE_CALLS:
                yield node.lineno
            names = set()
            if {keyword.arg for keyword in node.keywords} & UNSAFE_ARGUMENTS:
                yield node.lineno
        else:
            continue
        if names & UNSAFE_MODULES:
            yield node.lineno


def name_of(node):
    """'os.system' for the expression of that form; '' for one of another."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f'{node.value.id}.{node.attr}'
    return ''


@pytest.mark.parametrize('module', PROJECT)
def test_no_pickle_eval_or_shell(module):
    assert list(faults_of(MODULES[module].read_text(encoding='utf-8'))) == []


@pytest.mark.parametrize('line', [
    'import pickle', 'from pickle import loads', 'eval(text)', 'os.system(text)',
    'subprocess.run(text, shell=True)', 'np.load(path, allow_pickle=True)', 'import yaml',
])
def test_what_is_unsafe_is_noticed(line):
    assert list(faults_of(line)) == [1]


@pytest.mark.parametrize('module', PROJECT)
def test_connections_pickle_for_readers_alone(module):
    """Connection.send and recv pickle, as ForkingPickler does; send_bytes, recv_bytes do not."""
    tree = ast.parse(MODULES[module].read_text(encoding='utf-8'))
    functions = [function.name for function in ast.walk(tree)
                 if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
                 if isinstance(node, ast.Attribute) and (
                     node.attr in ('send', 'recv')
                     or name_of(node).startswith('ForkingPickler.'))]
    assert functions == PICKLING.get(module, [])


def test_scripts_evaluate_nothing(project_root):
    scripts = sorted(project_root.rglob('*.sh'))
    assert project_root / 'eval.sh' in scripts
    for path in scripts:
        text = path.read_text(encoding='utf-8')
        assert not re.search(r'(^|[;&|({]|\bthen|\bdo)\s*eval\s', text, re.MULTILINE), path
