"""What every test may ask for: the numeric fixtures and the real ICDAR2015 samples."""

import os
import pathlib
import signal

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / 'tests' / 'data'
SHARED = pathlib.Path(os.environ.get('PSENET_SHARED', str(ROOT.parent / 'shared')))

# So that a test may run `python -m tools.x` from a directory of its own.
os.environ['PYTHONPATH'] = f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'.rstrip(':')

# A shell starts what goes to its background with Ctrl-C ignored, and nohup with SIGHUP; children
# would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler),
                          (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture(scope='session')
def project_root() -> pathlib.Path:
    """The directory that holds train.py."""
    return ROOT


@pytest.fixture(scope='session')
def data_dir() -> pathlib.Path:
    """tests/data: numeric fixtures that travel with the project."""
    return DATA


@pytest.fixture(scope='session')
def shared_dir() -> pathlib.Path:
    """The shared directory beside the project; without it, tests that need it skip and say so."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the shared directory with real ICDAR2015 samples at {SHARED}')
    return SHARED


@pytest.fixture(scope='session')
def icdar_dir(shared_dir) -> pathlib.Path:
    """1,000 real training images, 100 real test images and the official ground truth."""
    directory = shared_dir / 'data' / 'icdar2015'
    if not directory.is_dir():
        pytest.skip(f'needs the real ICDAR2015 samples at {directory}')
    return directory
