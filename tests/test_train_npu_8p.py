"""The ranks of a job through the real script: what each gets, and how a job ends."""

import json
import os
import select
import subprocess
import sys

import pytest

PATIENCE_SECONDS = 120
OF_THE_JOB = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'ASCEND_DEVICE_ID', 'DEVICE_ID', 'JOB_ID',
              'DEVICES', 'FIRST_RANK', 'RANK_OUTPUT', 'BIND_CORES', 'HCCL_CONNECT_TIMEOUT')
# Stands for the interpreter, but for the launcher itself; what a rank does is in a file of its own.
STAND_IN = """#!/usr/bin/env bash
case "$*" in "-m tools.launch_npu"*) exec %s "$@" ;; esac
. ./play_$RANK_ID.sh
"""
# Until told to stop, and then in good order.
WAITS = """
trap 'echo $RANK_ID:TERM >>told; exit 143' TERM
trap 'echo $RANK_ID:INT >>told; exit 130' INT
trap 'echo $RANK_ID:HUP >>told; exit 129' HUP
trap 'echo $RANK_ID:USR1 >>told; exit 138' USR1
echo >ready_$RANK_ID
sleep 1000 & wait
"""
# Fifos, so that nobody has to look again and again.
AFTER_THE_OTHER = 'read -r _ <ready_0\n'


class Job:
    """A job of two ranks in a directory."""

    def __init__(self, root, directory):
        self.script = root / 'train_npu_8p.sh'
        self.directory = directory
        self.python = directory / 'python'
        self.python.write_text(STAND_IN % sys.executable)
        self.python.chmod(0o755)
        self.write_table(2)
        os.mkfifo(str(directory / 'ready_0'))

    def write_table(self, size):
        devices = [{'device_id': str(4 + rank), 'device_ip': f'10.0.0.{rank}',
                    'rank_id': str(rank)} for rank in range(size)]
        (self.directory / 'table.json').write_text(json.dumps({
            'version': '1.0', 'status': 'completed', 'server_count': '1',
            'server_list': [{'server_id': 'here', 'device': devices}]}))

    def run(self, plays=(), arguments=(), **variables):
        """Plays the ranks' parts: (exit code, stdout, stderr)."""
        for rank, play in enumerate(plays):
            (self.directory / (f'play_{rank}.sh')).write_text(play)
        kept = {name: value for name, value in os.environ.items() if name not in OF_THE_JOB}
        done = subprocess.run(
            ['bash', str(self.script), *arguments], cwd=str(self.directory), check=False,
            env={**kept, 'PYTHON': str(self.python), 'RANK_SIZE': '2',
                 'RANK_TABLE_FILE': 'table.json', **variables},
            capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode, done.stdout, done.stderr

    def told(self):
        """The signals that ranks got."""
        path = self.directory / 'told'
        return sorted(path.read_text().split()) if path.exists() else []


@pytest.fixture
def job(project_root, tmp_path):
    return Job(project_root, tmp_path)


SAYS_ALL = """
for name in POD_NAME RANK_SIZE RANK_ID JOB_ID ASCEND_DEVICE_ID DEVICE_ID RANK_TABLE_FILE \\
    HCCL_CONNECT_TIMEOUT; do echo "$name=${!name}"; done
printf '%s\\n' "$@"
"""


def test_each_rank_gets_the_published_command_and_its_environment(job, project_root):
    arguments = ['--checkpoint_path', 'run', '--restore']
    exit_code, own, _ = job.run([SAYS_ALL] * 2, arguments, BIND_CORES='0', POD_NAME='pod-0')
    assert exit_code == 0
    other = (job.directory / 'run' / 'rank_1.out').read_text()
    for rank, lines in enumerate((own.splitlines(), other.splitlines())):
        device = 4 + rank
        assert lines[:8] == [
            'POD_NAME=', 'RANK_SIZE=2', f'RANK_ID={rank}', 'JOB_ID=10087',
            f'ASCEND_DEVICE_ID={device}', f'DEVICE_ID={device}', 'RANK_TABLE_FILE=table.json',
            'HCCL_CONNECT_TIMEOUT=600']
        assert lines[8] == str(project_root / 'npu_train.py')
        assert lines[-3:] == arguments


def test_what_is_set_stays(job):
    _, own, _ = job.run([SAYS_ALL] * 2, ['--checkpoint_path=run'], HCCL_CONNECT_TIMEOUT='7200',
                        JOB_ID='7', DEVICES='0,1')
    assert {'HCCL_CONNECT_TIMEOUT=7200', 'JOB_ID=7', 'ASCEND_DEVICE_ID=0', 'DEVICE_ID=4'} <= {
        *own.splitlines()}


def test_output_of_the_other_ranks_can_go_elsewhere(job):
    job.run([SAYS_ALL] * 2, ['--checkpoint_path=run'], RANK_OUTPUT='out/%d/train_%d_%r.log')
    assert 'RANK_ID=1' in (job.directory / 'out' / '5' / 'train_5_1.log').read_text()


def test_a_rank_that_fails_ends_the_job(job):
    exit_code, _, log = job.run(
        [WAITS, AFTER_THE_OTHER + 'echo some; echo "error: no disk" >&2; exit 5'],
        ['--checkpoint_path=run'])
    assert exit_code == 5
    assert job.told() == ['0:TERM']
    assert log.splitlines()[-1] == (
        'error: rank 1 on device 5 ended with exit code 5; the last line of run/rank_1.out: '
        'error: no disk')


def test_a_rank_that_is_killed_ends_the_job_and_its_readers(job):
    os.mkfifo(str(job.directory / 'reader'))
    end = os.open(str(job.directory / 'reader'), os.O_RDONLY | os.O_NONBLOCK)
    try:
        exit_code, _, log = job.run([WAITS, AFTER_THE_OTHER + """
            exec 9>reader; sleep 1000 & kill -KILL $$"""], ['--checkpoint_path=run'])
        waiter = select.poll()
        waiter.register(end, select.POLLHUP)
        assert waiter.poll(1000 * PATIENCE_SECONDS), 'the reader still has its end of the pipe'
    finally:
        os.close(end)
    assert exit_code == 137
    assert log.splitlines()[-1] == 'error: rank 1 on device 5 was killed by SIGKILL (exit code 137)'


@pytest.mark.parametrize('before, after, expected', [
    ('', 'echo Step 7 >run/rank_1.log', 'rank_1.log: Step 7'),
    ('echo noise', 'echo Step 7 >run/rank_1.log; touch -d "+1 minute" run/rank_1.log',
     'rank_1.log: Step 7'),
    ('echo Step 7 >run/rank_1.log; touch -d "-1 second" run/rank_1.log', 'echo why',
     'rank_1.out: why'),
    ('echo Step 9 >run/rank_1.log; touch -d "-1 hour" run/rank_1.log', '', 'exit code 1'),
])
def test_the_file_that_was_written_last_tells(job, before, after, expected):
    play = AFTER_THE_OTHER + '\n'.join((before, after, 'exit 1'))
    _, _, log = job.run([WAITS, play], ['--checkpoint_path=run'])
    assert log.splitlines()[-1].endswith(expected)


def test_a_rank_that_does_not_end_is_killed(job):
    deaf = "trap '' TERM; echo >ready_0; sleep 1000; sleep 1000"
    exit_code, _, log = job.run([deaf, AFTER_THE_OTHER + 'exit 5'], ['--checkpoint_path=run'],
                                GRACE_SECONDS='1')
    assert exit_code == 5
    assert 'killing rank 0 on device 4, still running' in log


@pytest.mark.parametrize('name, passed, exit_code', [
    ('INT', 'INT', 130), ('TERM', 'TERM', 143), ('HUP', 'HUP', 129), ('USR1', 'USR1', 138)])
def test_a_signal_is_passed_to_every_rank_once(job, name, passed, exit_code):
    # The second of a pair, which timeout(1) sends, is the same wish.
    play = AFTER_THE_OTHER + f'kill -{name} $PPID; kill -{name} $PPID'
    found, _, log = job.run([WAITS, WAITS.replace('echo >ready_$RANK_ID', play)],
                            ['--checkpoint_path=run'])
    assert found == exit_code
    assert job.told() == ['0:' + passed, '1:' + passed]
    assert 'error' not in log


def test_a_second_signal_ends_patience(job):
    deaf = "trap '' TERM; echo >ready_0; sleep 1000; sleep 1000"
    ask = AFTER_THE_OTHER + """
        trap '' TERM
        for time in 1 2 3 4 5; do kill -TERM $PPID; sleep 1.5; done"""
    exit_code, _, log = job.run([deaf, ask], ['--checkpoint_path=run'], GRACE_SECONDS='1')
    assert exit_code == 143
    assert 'killing rank 0 on device 4, rank 1 on device 5, still running' in log


def test_ranks_that_one_of_them_told_to_stop_are_left_to_save(job):
    os.mkfifo(str(job.directory / 'watched'))
    saves = """
        trap 'echo $RANK_ID:TERM >>told' TERM
        echo >ready_0; read -r _ <ready_0; echo >saved; exit 143"""
    # A process in a session of its own sees the rank's end, and only then lets the other save.
    stops = AFTER_THE_OTHER + """
        setsid bash -c "echo >watched; tail --pid=$$ -f /dev/null; echo >ready_0" &
        read -r _ <watched; exit 143"""
    exit_code, _, log = job.run([saves, stops], ['--checkpoint_path=run'])
    assert exit_code == 143
    assert (job.directory / 'saved').exists()
    assert job.told() == []
    assert 'error' not in log


def test_a_failing_first_rank_speaks_on_the_terminal(job):
    exit_code, own, log = job.run(['echo why; exit 3', 'exec sleep 1000'],
                                  ['--checkpoint_path=run'])
    assert (exit_code, own) == (3, 'why\n')
    assert log.splitlines()[-1] == 'error: rank 0 on device 4 ended with exit code 3'


@pytest.mark.parametrize('variables, part', [
    ({'RANK_TABLE_FILE': 'none.json'}, 'RANK_TABLE_FILE=none.json does not exist; make one with'),
    ({'RANK_TABLE_FILE': ''}, 'rank_table_2p.json does not exist; make one'),
    ({'RANK_SIZE': '4'}, 'RANK_SIZE=4, but the rank table table.json has 2 ranks'),
    ({'RANK_SIZE': 'two'}, 'RANK_SIZE=two must be an integer of at least 1'),
    ({'RANK_SIZE': '0'}, 'RANK_SIZE=0'),
    ({'FIRST_RANK': '2'}, 'FIRST_RANK=2, but the last rank of table.json is 1'),
    ({'FIRST_RANK': '1'}, 'are 0, 1, but must be consecutive from FIRST_RANK=1'),
    ({'DEVICES': '0'}, 'DEVICES=0 names 1 devices, but table.json has 2 ranks'),
    ({'DEVICES': '0,0'}, 'DEVICES=0,0 must be distinct'),
    ({'DEVICES': '0-1'}, 'DEVICES=0-1 must be'),
    ({'GRACE_SECONDS': '-1'}, 'GRACE_SECONDS=-1'),
    ({'RANK_OUTPUT': 'table.json/%r'}, 'the directory of table.json/1 cannot be created'),
])
def test_mistakes_get_one_sentence_before_anything_starts(job, variables, part):
    exit_code, own, log = job.run(['echo started'] * 2, ['--checkpoint_path=run'], **variables)
    assert (exit_code, own) == (1, '')
    error = log.splitlines()[-1]
    assert error.startswith('error: ')
    assert part in error


def test_a_broken_table_is_named(job):
    (job.directory / 'table.json').write_text('{}')
    exit_code, _, log = job.run(['echo started'] * 2)
    assert exit_code == 1
    assert log.startswith('error: the rank table table.json is invalid: it has neither')


def test_help(job):
    exit_code, own, _ = job.run(arguments=['--help'])
    assert exit_code == 0
    assert 'HCCL_CONNECT_TIMEOUT=600' in own
