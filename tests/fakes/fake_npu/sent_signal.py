"""A signal that a test sends to a process in the middle of its training.

FAKE_NPU_SIGNAL=3:SIGTERM sends SIGTERM at the third run of the apply op in this process, before
anything of that run is computed.
"""

import os
import signal

VARIABLE = 'FAKE_NPU_SIGNAL'


def send(run: int) -> None:
    """Sends this process its signal if this is the run to send it at; SIGKILL ends it here.

    Args:
        run: how often the process has run an apply op, this time included.
    """
    at, _, name = os.environ.get(VARIABLE, '').partition(':')
    if at and run == int(at):
        os.kill(os.getpid(), signal.Signals[name])
