"""Worker processes: order, bounds, room, and every way in which they or their consumer can end."""

import errno
import gc
import importlib.util
import json
import os
import pathlib
import pickle
import resource
import signal
import subprocess
import sys
import time

import pytest
from process_probe import (
    LAYOUT,
    Busy,
    Exiting,
    Failing,
    Leaving,
    Sleeping,
    Struck,
    children,
    is_alive,
    make_batch,
    wait_until,
)

from utils.data_provider import readers
from utils.data_provider.readers import (
    RemoteError,
    WorkerError,
    WorkerPool,
    read_report,
    reserve,
)
from utils.errors import PSENetError

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def start():
    """start(build, ...): a WorkerPool that is closed after the test; no child may remain."""
    before = children()
    pools = []

    def start_pool(build, *args, **kwargs):
        pools.append(WorkerPool(build, LAYOUT, *args, **kwargs))
        return pools[-1]
    yield start_pool
    for pool in pools:
        pool.close()
    assert children() == before


@pytest.fixture
def script(project_root, tmp_path):
    """script(body): a Python program in a group of its own, started."""
    started = []

    def start_script(body):
        path = tmp_path / 'program.py'
        path.write_text(body)
        search = os.pathsep.join([str(project_root), str(HERE)])
        started.append(subprocess.Popen(
            [sys.executable, str(path)], env=dict(os.environ, PYTHONPATH=search),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True))
        return started[-1]
    yield start_script
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('num_workers', [1, 3])
def test_batches_come_in_order(start, num_workers):
    pool = start(make_batch, num_workers, first=5)
    for number in range(5, 12):
        report, arrays = pool.get()
        assert report.indices == [number]
        assert all((array == number).all() for array in arrays)


def test_no_worker_is_more_than_a_batch_ahead(start, tmp_path):
    pool = start(Leaving(tmp_path), 2)
    for _ in range(3):
        pool.get()
    wait_until(lambda: len(os.listdir(str(tmp_path))) == 5)
    time.sleep(0.5)
    assert len(os.listdir(str(tmp_path))) == 5


def test_a_batch_keeps_its_values_while_anything_refers_to_it(start):
    pool = start(make_batch, 2)
    kept = [pool.get()[1].images[0, 1:5] for _ in range(12)]
    assert all((view == number).all() for number, view in enumerate(kept))


def test_memory_is_used_again(start):
    pool = start(make_batch, 2)
    arrays, places = None, set()
    for _ in range(12):
        arrays = pool.get()[1]
        places.add(arrays.images.ctypes.data)
    # A slot a worker, the batch in use, and the next one.
    assert len(places) <= 4
    assert not any(place % 64 for place in places)


def test_a_batch_outlives_its_pool(start):
    pool = start(make_batch, 1)
    pool.get()
    _, arrays = pool.get()
    pool.close()
    assert all((array == 1).all() for array in arrays)


def test_an_exception_arrives_with_its_traceback(start):
    pool = start(Failing(at=3), 2)
    for _ in range(3):
        pool.get()
    with pytest.raises(RemoteError, match='ZeroDivisionError: batch 3 is cursed') as error:
        pool.get()
    assert 'process_probe.py' in str(error.value.__cause__)
    assert not isinstance(error.value, PSENetError)


def test_a_failure_waits_for_its_turn(start):
    pool = start(Failing(at=1), 2)
    wait_until(lambda: False, 2)
    assert pool.get()[0].indices == [0]
    with pytest.raises(RemoteError):
        pool.get()


def test_what_cannot_be_unpickled_is_reported(start, monkeypatch):
    monkeypatch.setattr(make_batch, '__module__', '__main__')
    monkeypatch.setattr(sys.modules['__main__'], 'make_batch', make_batch, raising=False)
    with pytest.raises(RemoteError, match='make_batch'):
        start(make_batch, 1).get()


@pytest.fixture
def patience(monkeypatch):
    """patience(...) sets the seconds after which the workers of a batch count as stuck."""
    def have_patience(*seconds):
        monkeypatch.setattr(readers, '_PATIENCE_SECONDS', seconds)
        monkeypatch.setattr(readers, '_POLL_SECONDS', 0.1)
    return have_patience


@pytest.mark.parametrize('signum', [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_struck_in_a_batch_is_replaced(start, tmp_path, warnings, patience, signum):
    patience(3, 30, 60)
    (tmp_path / 'once').touch()
    pool = start(Struck(tmp_path, signum, at=[3]), 2)
    first = pool._workers[1].process.pid
    for number in range(8):
        report, arrays = pool.get()
        assert report.indices == [number]
        assert all((array == number).all() for array in arrays)
    assert not is_alive(first)
    assert f'(id {first})' in warnings.text
    assert 'a new process builds batch 3' in warnings.text


def test_workers_killed_while_they_wait_are_replaced(start):
    pool = start(make_batch, 2)
    numbers = [pool.get()[0].indices[0] for _ in range(3)]
    for worker in list(pool._workers):
        worker.process.kill()
        worker.process.wait()
    assert numbers + [pool.get()[0].indices[0] for _ in range(5)] == list(range(8))


def test_a_batch_that_no_worker_survives_is_an_error_with_the_signal(start, tmp_path, warnings):
    for mark in 'abc':
        (tmp_path / mark).touch()
    pool = start(Struck(tmp_path, signal.SIGSEGV, at=[1]), 1)
    pool.get()
    with pytest.raises(WorkerError, match=r'\(id \d+\) was killed by SIGSEGV'):
        pool.get()
    assert warnings.text.count('a new process builds batch 1') == 2


def test_a_batch_that_every_worker_gets_stuck_with_is_an_error(start, patience):
    patience(0.3, 0.5)
    pool = start(Sleeping(since=0), 1)
    with pytest.raises(WorkerError, match=r'is stuck: it has worked on batch 0'):
        pool.get()


def test_a_worker_that_computes_is_waited_for(start, warnings, patience):
    patience(2)
    assert start(Busy(seconds=3), 1).get()[0].indices == [0]


def test_a_worker_that_computes_without_end_is_an_error(start, monkeypatch, patience):
    patience(100)
    monkeypatch.setattr(readers, '_LONGEST_SECONDS', 1)
    with pytest.raises(WorkerError, match='is stuck'):
        start(Busy(seconds=1000), 1).get()


def test_a_worker_that_exits_is_an_error_with_the_code(start):
    pool = start(Exiting(at=1, code=7), 1)
    pool.get()
    with pytest.raises(WorkerError, match='with code 7'):
        pool.get()


def test_a_worker_that_cannot_start_is_an_error(start, monkeypatch):
    monkeypatch.setattr(readers, '_BOOTSTRAP', 'import sys; sys.exit(9)')
    pool = start(make_batch, 2)
    with pytest.raises(WorkerError, match='with code 9'):
        pool.get()


def test_a_worker_stopped_before_it_began_is_replaced(start, monkeypatch, patience, warnings):
    patience(0.5, 60)
    started = readers._start_worker

    def start_stopped(*descriptors):
        worker = started(*descriptors)
        os.kill(worker.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(readers, '_start_worker', started)
        return worker

    monkeypatch.setattr(readers, '_start_worker', start_stopped)
    # A job of more than what a socket holds.
    pool = start(Failing(at=b'x' * 10 ** 7), 1)
    assert [pool.get()[0].indices for _ in range(2)] == [[0], [1]]
    assert 'a new process builds batch 0' in warnings.text


def test_a_worker_has_a_thread_that_works_and_one_that_watches(start):
    pool = start(make_batch, 1)
    pool.get()
    assert len(os.listdir(f'/proc/{pool._workers[0].process.pid}/task')) == 2


def test_a_long_wait_is_spoken_of(start, warnings, monkeypatch, patience):
    patience(1.7)
    monkeypatch.setattr(readers, '_POLL_SECONDS', 0.5)
    monkeypatch.setattr(readers, '_NOTICE_SECONDS', 0.5)
    pool = start(Sleeping(since=1), 1)
    pool.get()
    with pytest.raises(WorkerError):
        pool.get()
    assert 'still waiting for batch 1' in warnings.text


@pytest.mark.parametrize('build', [Sleeping(), make_batch, Failing(at=0)],
                         ids=['in a batch', 'blocked', 'failed'])
def test_closing_is_prompt_and_can_be_repeated(start, build):
    pool = start(build, 2)
    time.sleep(0.7)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    pool.close()


def test_a_stopped_worker_does_not_hold_up_closing(start):
    pool = start(Sleeping(), 1)
    os.kill(pool._workers[0].process.pid, signal.SIGSTOP)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5


def test_a_forgotten_pool_ends_its_workers():
    before = children()
    pool = WorkerPool(Sleeping(), LAYOUT, 2)
    assert len(children() - before) == 2
    del pool
    gc.collect()
    assert children() == before


def test_a_worker_that_the_system_does_not_start_is_an_error(start, monkeypatch):
    monkeypatch.setattr(readers.sys, 'executable', '/nowhere/python')
    with pytest.raises(WorkerError, match=r'cannot be started .*--num_readers'):
        start(make_batch, 1)


def test_a_forked_copy_leaves_the_workers_alone(start):
    pool = start(make_batch, 1)
    pool.get()
    copy = os.fork()
    if not copy:
        pool.close()
        os._exit(0)
    os.waitpid(copy, 0)
    assert pool.get()[0].indices == [1]


@pytest.mark.parametrize('build', ['Sleeping()', 'Leaving(sys.argv[0] + ".d")'],
                         ids=['in a batch', 'blocked'])
def test_workers_end_when_their_consumer_is_killed(script, tmp_path, build):
    (tmp_path / 'program.py.d').mkdir()
    process = script(
        'import sys, time\n'
        'from process_probe import *\n'
        'from utils.data_provider.readers import WorkerPool\n'
        f'pool = WorkerPool({build}, LAYOUT, 2)\n'
        'print(*children(), flush=True)\n'
        'time.sleep(100)\n')
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.7)
    assert all(map(is_alive, workers))
    process.kill()
    assert wait_until(lambda: not any(map(is_alive, workers)), 5)


def test_workers_ignore_the_terminal_and_end_with_their_consumer(script):
    process = script(
        'from process_probe import *\n'
        'from utils.data_provider.readers import WorkerPool\n'
        'pool = WorkerPool(Sleeping(), LAYOUT, 2)\n'
        'print(*children(), flush=True)\n'
        'pool.get()\n')
    workers = [int(pid) for pid in process.stdout.readline().split()]
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode != 0
    assert errors.count('Traceback') == 1
    assert errors.rstrip().endswith('KeyboardInterrupt')
    assert not any(map(is_alive, workers))


def test_the_main_program_is_not_run_again_and_tensorflow_stays_there(script):
    if importlib.util.find_spec('tensorflow') is None:
        pytest.skip('TensorFlow is not installed')
    process = script(
        'import tensorflow, time\n'
        'from process_probe import *\n'
        'from utils.data_provider.readers import WorkerPool\n'
        'print("started", flush=True)\n'
        'pool = WorkerPool(make_batch, LAYOUT, 2)\n'
        'pool.get(), pool.get()\n'
        'def loaded(pid):\n'
        '    with open("/proc/%s/maps" % pid) as maps: return "tensorflow" in maps.read()\n'
        'print(loaded("self"), *map(loaded, children()))\n')
    output, errors = process.communicate(timeout=60)
    assert output.split() == ['started', 'True', 'False', 'False'], errors


def test_a_report_arrives_as_it_was_sent():
    sent = {'indices': [3, 1], 'unreadable': {5: 'img_5.jpg is empty.'}, 'skipped_draws': 2,
            'failed_draws': 0}
    assert vars(read_report(json.dumps({'report': sent}).encode())) == sent


def test_nothing_of_a_worker_is_unpickled():
    with pytest.raises(RemoteError, match='invalid report'):
        read_report(pickle.dumps(os.getcwd))


def shared_files():
    """What this process has open of files without a name."""
    paths = (f'/proc/self/fd/{name}' for name in os.listdir('/proc/self/fd'))
    return [os.readlink(path) for path in paths if os.path.islink(path)
            and os.readlink(path).endswith(' (deleted)')]


def test_no_file_and_no_descriptor_remain():
    before = len(shared_files())
    pool = WorkerPool(make_batch, LAYOUT, 1)
    pool.get()
    assert len(shared_files()) > before
    pool.close()
    del pool
    gc.collect()
    assert len(shared_files()) == before


@pytest.fixture
def directories(monkeypatch, tmp_path):
    """The directory in memory, and the one for temporary files."""
    made = tmp_path / 'memory', tmp_path / 'disk'
    for directory in made:
        directory.mkdir()
    monkeypatch.setattr(readers, '_MEMORY_FOLDER', str(made[0]))
    monkeypatch.setattr(readers.tempfile, 'gettempdir', lambda: str(made[1]))
    return made


def test_a_folder_in_memory_without_room_is_passed_over_with_a_sentence(directories, monkeypatch,
                                                                       warnings):
    allocate, sizes = os.posix_fallocate, []

    def full_at_first(descriptor, offset, size):
        sizes.append(size)
        if len(sizes) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(descriptor, offset, size)
    monkeypatch.setattr(os, 'posix_fallocate', full_at_first)
    descriptor = reserve(3 * 2 ** 20 + 3)
    assert os.fstat(descriptor).st_size == 3 * 2 ** 20 + 3
    os.close(descriptor)
    assert sizes == [3 * 2 ** 20 + 3] * 2
    message, = [record.getMessage() for record in warnings.records]
    assert f'a file in {directories[1]}' in message
    assert f'{directories[0]}: No space left on device' in message
    assert 'need 4 MB' in message


def test_no_folder_in_memory_at_all(directories, warnings, start):
    directories[0].rmdir()
    assert start(make_batch, 1).get()[0].indices == [0]
    assert f'{directories[0]}: No such file or directory' in warnings.text


@pytest.fixture
def small_files():
    """No file may grow beyond a megabyte: as if every file system were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 ** 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_anywhere_is_an_error_before_anything_is_written(small_files):
    with pytest.raises(PSENetError, match=r'need 3 MB to share .*: File too large; .*: File too '
                                          r'large\): lower --num_readers or .*--shm-size'):
        reserve(3 * 2 ** 20)
