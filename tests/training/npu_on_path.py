"""The fake npu_bridge in the process of a test, and its traces removed afterwards."""

import os
import pathlib
import sys
from contextlib import contextmanager
from unittest import mock

FAKES = pathlib.Path(__file__).resolve().parent.parent / 'fakes'
PACKAGES = ('npu_bridge', 'fake_npu', 'hccl')


@contextmanager
def fake_npu_bridge(**environment):
    """Puts the fake on the path, with these environment variables besides."""
    with mock.patch.object(sys, 'path', [str(FAKES)] + sys.path), \
            mock.patch.dict(os.environ, environment):
        for name in ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'CM_WORKER_SIZE'):
            if name not in environment:
                os.environ.pop(name, None)
        try:
            yield
        finally:
            session = sys.modules.get('fake_npu.session')
            if session is not None:
                session.uninstall()
            for name in [name for name in sys.modules if name.split('.')[0] in PACKAGES]:
                del sys.modules[name]
