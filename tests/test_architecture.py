"""The layers of the project, held by reading every import; and the sizes of its files."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ('evaluation', 'inference', 'nets', 'pse', 'tests', 'tools', 'training', 'utils')
MAX_LINES = 500
ENTRY_SCRIPTS = {'train': 60, 'npu_train': 60, 'eval': 80}

# Layer -> what it may import besides itself. utils stands for its modules without data_provider.
MAY_IMPORT = {
    'utils': (),
    'utils.data_provider': ('utils',),
    'nets': ('utils',),
    'pse': ('utils',),
    'training': ('utils', 'utils.data_provider', 'nets'),
    'inference': ('utils', 'pse', 'nets', 'training.checkpoints', 'training.run_folder'),
    'evaluation': (),
}
TENSORFLOW = ('nets', 'training', 'inference.networks', 'tools.benchmarks.stand_in',
              'tools.import_backbone', 'tools.exporting.formats', 'tools.exporting.exporter',
              *ENTRY_SCRIPTS)
NOT_TENSORFLOW = ('training.config', 'training.devices.launcher', 'training.devices.npu.job',
                  'training.devices.npu.options', 'training.devices.npu.table')
NPU_BRIDGE = ('training.devices.npu',)
HOROVOD = ('training.devices.horovod',)
ONNX_RUNTIME = ('inference.onnx_networks', 'tools.exporting.formats',
                'tools.exporting.quantization')


def module_name(path):
    """The dotted name of a file, from its place below the root."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = [*ROOT.glob('*.py'), *(file for name in PACKAGES for file in (ROOT / name).rglob('*.py'))]
MODULES = {module_name(path): path for path in FILES}
PROJECT = sorted(name for name in MODULES if name.split('.')[0] != 'tests')


def within(module, package):
    """Whether a module is the package or stands in it."""
    return module == package or module.startswith(package + '.')


def imports_of(source):
    """Absolute names of all that a source imports, functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'line {node.lineno}: a relative import'
            names = (f'{node.module}.{alias.name}' for alias in node.names)
            yield from (name if name in MODULES else node.module for name in names)


def layer_of(module):
    """The innermost layer that a module stands in; None for entry scripts, tools and tests."""
    return max((layer for layer in MAY_IMPORT if within(module, layer)), key=len, default=None)


def may_import(module, imported):
    """Whether a module may import another, of the project or from outside."""
    top = imported.split('.')[0]
    if top == 'tensorflow':
        allowed = any(within(module, place) for place in TENSORFLOW)
        return allowed and module not in NOT_TENSORFLOW
    if top == 'npu_bridge':
        return any(within(module, place) for place in NPU_BRIDGE)
    if top == 'horovod':
        return module in HOROVOD
    if top in ('onnxruntime', 'openvino'):
        return module in ONNX_RUNTIME
    if top in ('tests', *ENTRY_SCRIPTS):
        return False
    return top not in PACKAGES or keeps_to_its_layer(layer_of(module), imported)


def keeps_to_its_layer(layer, imported):
    """Whether a module of the project is one that a layer may import."""
    if layer is None:
        return True
    target = layer_of(imported)
    return target == layer or bool({target, imported} & set(MAY_IMPORT[layer]))


@pytest.mark.parametrize('module', PROJECT)
def test_imports_keep_to_the_layers(module):
    imported = imports_of(MODULES[module].read_text(encoding='utf-8'))
    assert [name for name in imported if not may_import(module, name)] == []


def test_every_package_is_walked():
    assert {name.split('.')[0] for name in MODULES} >= {*PACKAGES, 'train', 'eval'}


@pytest.mark.parametrize('module', PROJECT)
def test_no_file_is_too_long_to_read(module):
    lines = MODULES[module].read_text(encoding='utf-8').count('\n')
    assert lines <= ENTRY_SCRIPTS.get(module, MAX_LINES)


@pytest.mark.parametrize('module', [name for name in PROJECT if layer_of(name)])
def test_flags_are_read_in_entry_scripts_alone(module):
    tree = ast.parse(MODULES[module].read_text(encoding='utf-8'))
    reads = [node.lineno for node in ast.walk(tree)
             if isinstance(node, ast.Attribute) and node.attr == 'FLAGS']
    # cli parses them, and lists them for --help.
    assert not reads or module == 'utils.cli'


@pytest.mark.parametrize('modules', [
    ('utils.data_provider.data_provider', 'inference.postprocess', 'evaluation.protocol', 'pse'),
    ('training.config', 'training.devices.npu.options', 'inference.config', 'inference.folder',
     'training.run_folder', 'inference.networks', 'inference.thresholds'),
    tuple(name for name in PROJECT if layer_of(name) in ('utils', 'utils.data_provider')),
], ids=['data, post-processing, scoring', 'configuration', 'utils'])
def test_these_start_without_tensorflow(modules):
    code = f"import {', '.join(modules)}; import sys; sys.exit(\"tensorflow\" in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], cwd=str(ROOT), check=False).returncode == 0


def test_evaluation_runs_without_the_rest_of_the_project():
    project = tuple(name for name in PACKAGES if name != 'evaluation')
    names = ', '.join(name for name in PROJECT if within(name, 'evaluation'))
    code = (f'import {names}; import sys; sys.exit(any(name.split(".")[0] in {project!r} for name '
            'in sys.modules))')
    assert subprocess.run([sys.executable, '-c', code], cwd=str(ROOT), check=False).returncode == 0
