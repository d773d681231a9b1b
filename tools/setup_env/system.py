"""What the machine and the interpreter offer, and which package of the system to install if not."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import List

from tools.setup_env.plan import SetupError

_PYTHON = 'python%d.%d' % sys.version_info[:2]
_COMPILER = ('apt-get install build-essential (Debian, Ubuntu) or '
             'yum install gcc-c++ make (CentOS, openEuler)')
_HEADERS = ('apt-get install %s-dev (Debian, Ubuntu) or '
            'yum install python3-devel (CentOS, openEuler)' % _PYTHON)
_OPENCV = ('apt-get install libgl1 libglib2.0-0 (Debian, Ubuntu) or '
           'yum install mesa-libGL glib2 (CentOS, openEuler)')


def check_compiler() -> None:
    """Checks for what pse is built with.

    Raises:
        SetupError: naming the package to install.
    """
    compiler = os.environ.get('CXX', 'g++').split()[0]
    missing = [name for name in (compiler, 'make') if shutil.which(name) is None]
    if missing:
        raise SetupError('missing: %s; install with %s' % (' and '.join(missing), _COMPILER))
    headers = sysconfig.get_path('include')
    if not os.path.isfile(os.path.join(headers, 'Python.h')):
        raise SetupError('missing: Python.h in %s; install with %s' % (headers, _HEADERS))


def advice_on_import(message: str) -> str:
    """Returns what to install when a module cannot be imported for want of a system library."""
    libraries = ('libGL.so', 'libgthread', 'libglib')
    if any(library in message for library in libraries):
        return '\nOpenCV needs libraries of the system; install with %s' % _OPENCV
    return ''


def has_tensorflow() -> bool:
    """Whether the interpreter that runs this can import TensorFlow 1.15."""
    # This package is what TensorFlow 1.15 has and later ones have not; the import takes seconds.
    if importlib.util.find_spec('tensorflow_core') is None:
        return False
    command = [sys.executable, '-c', 'import tensorflow; print(tensorflow.__version__)']
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return process.stdout.decode().startswith('1.15.')


def site_folders() -> List[str]:
    """Lists the folders in which the interpreter that runs this has its packages."""
    return [path for path in sys.path
            if os.path.basename(path) in ('site-packages', 'dist-packages') and os.path.isdir(path)]
