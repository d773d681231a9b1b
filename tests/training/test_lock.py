"""Who holds the lock of a checkpoint directory, and who does not: real processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from training.run_folder import LOCK_FILE, folder_lock
from utils.errors import PSENetError

HOLDER = """
import subprocess, sys
from training.run_folder import (folder_lock)
with folder_lock(sys.argv[1], 0):
    # As a reader: a process that lives on, with all descriptors that it can get.
    reader = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL)
    print(reader.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, project_root):
    """(process that holds the lock of tmp_path, process id of its child)."""
    process = subprocess.Popen([sys.executable, '-c', HOLDER, str(tmp_path)], text=True,
                               cwd=str(project_root), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.communicate()
    os.kill(child, signal.SIGKILL)


def test_a_second_training_is_refused_with_folder_and_process(holder, tmp_path):
    with pytest.raises(PSENetError) as error, folder_lock(str(tmp_path), 0):
        pass
    assert f'--checkpoint_path={tmp_path} is in use by another training' in str(error.value)
    assert f'process {holder[0].pid} on ' in str(error.value)
    assert (tmp_path / LOCK_FILE).exists()


def test_a_killed_process_does_not_hold_it_though_its_child_lives(holder, tmp_path):
    process, child = holder
    process.kill()
    process.wait()
    os.kill(child, 0)
    with folder_lock(str(tmp_path), 0):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f'process {os.getpid()} on ')


def test_an_orderly_end_leaves_nothing(holder, tmp_path):
    process, _ = holder
    process.communicate()
    assert os.listdir(str(tmp_path)) == []


def test_the_other_ranks_need_no_lock(holder, tmp_path):
    with folder_lock(str(tmp_path), 1):
        pass
    assert (tmp_path / LOCK_FILE).read_text().startswith(f'process {holder[0].pid} on ')


def test_an_error_lets_go_of_it(tmp_path):
    with pytest.raises(KeyError), folder_lock(str(tmp_path), 0):
        raise KeyError
    assert os.listdir(str(tmp_path)) == []


def test_a_file_that_took_the_place_of_ours_is_left_alone(tmp_path):
    with folder_lock(str(tmp_path), 0):
        (tmp_path / LOCK_FILE).unlink()
        (tmp_path / LOCK_FILE).write_text("another's")
    assert (tmp_path / LOCK_FILE).read_text() == "another's"


def test_a_file_removed_before_it_was_locked_does_not_count(tmp_path, monkeypatch):
    real, attempts = fcntl.lockf, []

    def lock_late(file, how):
        attempts.append(file)
        if len(attempts) == 1:
            (tmp_path / LOCK_FILE).unlink()
        real(file, how)
    monkeypatch.setattr(fcntl, 'lockf', lock_late)
    with folder_lock(str(tmp_path), 0):
        assert (tmp_path / LOCK_FILE).exists()
    assert len(attempts) == 2


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_a_warning(tmp_path, monkeypatch, messages, number):
    def refuse(file, how):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(fcntl, 'lockf', refuse)
    with folder_lock(str(tmp_path), 0):
        pass
    warning, = messages()
    assert 'training.lock cannot be locked' in warning
    assert 'would go unnoticed' in warning


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(PSENetError, match=r'=.*/file/run cannot be written \(Not a directory\)'), \
            folder_lock(str(tmp_path / 'file' / 'run'), 0):
        pass
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(PSENetError, match=r'cannot be written \(Is a directory\)'), \
            folder_lock(str(tmp_path), 0):
        pass
