"""Compares the pinned packages with PyPI's list of known vulnerabilities; part of `make lint`.

    python -m tools.audit               exits with 1 if a vulnerability has not been accepted
    python -m tools.audit --report      only reports it

Python 3.7, TensorFlow 1.15 and most packages for them no longer receive fixes. Known
vulnerabilities of the packages listed here are therefore accepted, each for the stated reason; in
any other package they are an error. Without access to PyPI the check is skipped with a message.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FILES = ('requirements.txt', 'requirements-dev.txt', 'requirements-horovod.txt',
          'requirements-tools.txt', 'requirements-fuzz.txt', 'constraints.txt')
_PATIENCE_SECONDS = 90

_OLD = 'no version for Python 3.7 corrects it; '
_TOOL = _OLD + 'a tool of developers, which sees nothing but this project'
ACCEPTED = {
    'tensorflow': 'the network needs TensorFlow 1.15, which has had no fixes since 2021; nearly '
                  'all of them concern graphs, models and op arguments from untrusted sources: '
                  'graphs are built here, and only tensors are read from checkpoints '
                  '(docs/security.md)',
    'tensorboard': 'comes with TensorFlow 1.15; its server is never started by the project',
    'grpcio': _OLD + 'no server is started and no connection made without --distributed',
    'protobuf': 'TensorFlow 1.15 cannot use a later one; parses event files and checkpoint '
                'indices, which are trusted as the checkpoint is',
    'numpy': 'TensorFlow 1.15 cannot use a later one; no pickled array is ever loaded',
    'pillow': _OLD + 'reads nothing but headers of images that are neither JPEG nor PNG, and '
              'draws the demo',
    'opencv-python': 'decodes untrusted images: keep it at the newest version that installs',
    'werkzeug': _OLD + 'used by the demo server, without its debugger, form parser and Windows '
                'paths',
    'onnx': _OLD + 'writes and reads only models made by tools.export; other models go to ONNX '
            'Runtime, and are trusted as the checkpoint is',
    'selenium': _TOOL, 'h11': _TOOL,
    'markdown': _OLD + "TensorBoard's server, which is never started by the project",
    'fonttools': _OLD + "comes with matplotlib; no fonts but matplotlib's own are read",
    'setuptools': 'a later one warns out of TensorBoard; installs what is pinned here',
    'wheel': _TOOL,
    'zipp': _OLD + 'reads the metadata of installed packages',
    'scipy': _TOOL,
    'pytest': _TOOL,
    'h5py': _OLD + 'comes with Keras; no HDF5 file is opened',
    'pyyaml': _TOOL,
    'horovod': 'starts the processes that its user names, on hosts of its user',
    'cloudpickle': 'comes with Horovod, whose launcher is used and whose run functions are not',
    'certifi': _TOOL, 'requests': _TOOL, 'urllib3': _TOOL, 'idna': _TOOL, 'filelock': _TOOL,
    'gitpython': _TOOL, 'pygments': _TOOL, 'cachecontrol': _TOOL, 'msgpack': _TOOL,
    'pip': _TOOL, 'html5lib': _TOOL, 'markdown-it-py': _TOOL, 'tqdm': _TOOL,
}


class Finding(NamedTuple):
    """A known vulnerability of a pinned package."""

    package: str
    version: str
    identifier: str


def findings_of(report: Dict[str, Any]) -> List[Finding]:
    """Lists the vulnerabilities in a report of pip-audit without duplicates."""
    found = {Finding(package['name'].lower(), package['version'], vulnerability['id'])
             for package in report['dependencies'] for vulnerability in package.get('vulns', ())}
    return sorted(found)


def verdict(report: Optional[Dict[str, Any]]) -> List[str]:
    """Summarises a report.

    Args:
        report: report of pip-audit; None if PyPI could not be reached.

    Returns:
        Lines of text; vulnerabilities that are not accepted begin with ``error``.
    """
    if report is None or not any('vulns' in package for package in report['dependencies']):
        return ['known vulnerabilities: skipped, no network (PyPI does not answer)']
    findings = findings_of(report)
    lines = [f'error: {one.package} {one.version} has {one.identifier}: choose a version without '
             'it, or explain in tools/audit.py why it does no harm'
             for one in findings if one.package not in ACCEPTED]
    packages = {one.package for one in findings if one.package in ACCEPTED}
    accepted = sum(one.package in ACCEPTED for one in findings)
    return lines + [f'known vulnerabilities: {accepted} accepted, of '
                    f'{", ".join(sorted(packages)) or "no package"} (tools/audit.py says why), '
                    f'{len(lines)} not']


def ask_pypi() -> Optional[Dict[str, Any]]:
    """Runs pip-audit on all pinned packages; returns None if PyPI cannot be reached."""
    options = [option for name in _FILES for option in ('-r', os.path.join(ROOT, name))]
    try:
        ended = subprocess.run(
            [sys.executable, '-m', 'pip_audit', *options, '--no-deps', '--disable-pip',
             '--format=json', '--progress-spinner=off', '--timeout=5'],
            capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
        return json.loads(ended.stdout.decode())
    except (subprocess.TimeoutExpired, ValueError):
        return None


def main(report_only: bool) -> int:
    """Prints the findings; returns the exit code."""
    lines = verdict(ask_pypi())
    print('\n'.join(lines))
    return int(not report_only and any(line.startswith('error') for line in lines))


if __name__ == '__main__':
    sys.exit(main('--report' in sys.argv[1:]))
