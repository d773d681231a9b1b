"""A child's end: its exit code, its output, and that nothing of it survives an interrupt."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tools import phases as child_process

# Starts a child of its own that ignores SIGINT, says its pid, and waits.
_STUBBORN_FAMILY = (
    'import signal, subprocess, sys, time\n'
    'grandchild = subprocess.Popen([sys.executable, "-c", "import signal, time\\n'
    'signal.signal(signal.SIGINT, signal.SIG_IGN)\\ntime.sleep(60)"])\n'
    'print(grandchild.pid, flush=True)\n'
    'time.sleep(60)\n'
)


def test_output_is_returned_when_asked_for():
    assert child_process.run_child([sys.executable, '-c', 'print("é")'], capture=True) == 'é\n'


def test_failure_names_the_script_and_the_exit_code(tmp_path):
    script = tmp_path / 'breaks.py'
    script.write_text('raise SystemExit(3)')
    with pytest.raises(child_process.ChildError, match=r'breaks\.py failed with exit code 3'):
        child_process.run_child([sys.executable, str(script)])


def test_death_by_signal_names_the_signal():
    code = 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
    with pytest.raises(child_process.ChildError, match='ended by signal 9'):
        child_process.run_child([sys.executable, '-c', code])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_ends_the_child_and_its_children(project_root, number):
    code = ('import sys\nfrom tools import phases as child_process\n'
            'child_process.interrupt_on_termination()\n'
            f'child_process.run_child([sys.executable, "-c", {_STUBBORN_FAMILY!r}])')
    parent = subprocess.Popen([sys.executable, '-c', code], cwd=str(project_root),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    grandchild = int(parent.stdout.readline())
    parent.send_signal(number)
    _, messages = parent.communicate(timeout=30)
    assert b'KeyboardInterrupt' in messages
    assert _is_gone(grandchild)


def _is_gone(pid: int) -> bool:
    """Whether a process ends within a few seconds; a zombie nobody reaps counts as ended."""
    for _ in range(50):
        try:
            with open(os.path.join('/proc', str(pid), 'stat')) as stat:
                if stat.read().rsplit(')', 1)[1].split()[0] == 'Z':
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False
