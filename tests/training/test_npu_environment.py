"""Which environments are those of one process on one NPU, alone or as a rank of a job."""

import json

import pytest

from training.devices.npu.job import (
    NpuRank,
    check_one_device,
    rank_from_environment,
    remove_empty,
)
from utils.errors import PSENetError


def server_table(*devices, status='completed'):
    """A rank table of the newer form."""
    return {'version': '1.0', 'status': status, 'server_count': '1', 'server_list': [{
        'server_id': '127.0.0.1', 'device': [
            {'device_id': device, 'device_ip': f'192.168.100.{101 + rank}',
             'rank_id': str(rank)} for rank, device in enumerate(devices)]}]}


def group_table(*devices):
    """A rank table of the older form."""
    return {'status': 'completed', 'group_count': '1', 'group_list': [{
        'group_name': '', 'device_num': str(len(devices)), 'server_num': '1',
        'instance_count': str(len(devices)), 'instance_list': [
            {'devices': [{'device_id': device, 'device_ip': f'192.168.10.{2 + rank}'}],
             'rank_id': str(rank), 'server_id': '10.0.0.1'}
            for rank, device in enumerate(devices)]}]}


@pytest.fixture
def written(tmp_path):
    """written(table): the path of a file with it."""
    def write(table):
        path = tmp_path / 'table.json'
        path.write_text(json.dumps(table))
        return str(path)
    return write


def refusal(environment):
    """The sentence about an environment."""
    with pytest.raises(PSENetError) as caught:
        rank_from_environment(environment)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('environment', [
    {}, {'RANK_SIZE': '1', 'RANK_ID': '0', 'ASCEND_DEVICE_ID': '7', 'JOB_ID': '10087'},
    {'DEVICE_ID': '0'}, {'ASCEND_DEVICE_ID': '', 'RANK_TABLE_FILE': ''}, {'CM_WORKER_SIZE': '1'},
    {'POD_NAME': 'training-0'},
])
def test_one_device_is_taken(environment):
    assert rank_from_environment(environment) == NpuRank(0, 1)
    check_one_device(environment)


@pytest.mark.parametrize('environment, parts', [
    ({'ASCEND_DEVICE_ID': '-1'}, ['ASCEND_DEVICE_ID=-1', 'at least 0']),
    ({'DEVICE_ID': 'npu0'}, ['DEVICE_ID=npu0', 'at least 0']),
    ({'RANK_SIZE': '0'}, ['RANK_SIZE=0', 'at least 1']),
    ({'RANK_SIZE': 'one'}, ['RANK_SIZE=one']),
    ({'RANK_SIZE': '²'}, ['RANK_SIZE=²']),
    ({'RANK_SIZE': '1', 'CM_WORKER_SIZE': '1'}, ['RANK_SIZE and CM_WORKER_SIZE']),
    ({'RANK_ID': '1'}, ['RANK_ID=1', 'less than the number of ranks, 1']),
    ({'RANK_TABLE_FILE': '/no/such.json', 'RANK_ID': '0'}, ['/no/such.json', 'unset']),
])
def test_what_cannot_be_one_device_is_refused(environment, parts):
    sentence = refusal(environment)
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize('table', [server_table('3'), group_table('3')])
def test_a_table_of_this_device_is_taken(table, written):
    check_one_device({'RANK_TABLE_FILE': written(table), 'RANK_ID': '0', 'ASCEND_DEVICE_ID': '3'})


@pytest.mark.parametrize('table, part', [
    (server_table('0', '1'), 'describes 2 devices, but the job has 1'),
    (group_table('0', '1'), 'describes 2 devices'),
    (server_table(), 'rank_ids are missing'),
    (server_table('3', status='initializing'), "status is 'initializing'"),
    (server_table('2'), 'gives rank 0 the device 2, but DEVICE_ID=3'),
    ({}, 'neither a server_list nor a group_list'),
    ([], 'neither a server_list nor a group_list'),
])
def test_a_table_of_something_else_is_refused(table, part, written):
    assert part in refusal({'RANK_TABLE_FILE': written(table), 'RANK_ID': '0', 'DEVICE_ID': '3'})


def test_a_table_without_a_rank_is_refused(written):
    assert 'RANK_ID must be set' in refusal({'RANK_TABLE_FILE': written(server_table('0'))})


@pytest.fixture
def job(written):
    """job(NAME=value or None): the environment of rank 1 of 2, changed."""
    def change(**changes):
        variables = {'RANK_SIZE': '2', 'RANK_ID': '1', 'JOB_ID': '10087', 'ASCEND_DEVICE_ID': '5',
                     'RANK_TABLE_FILE': written(server_table('4', '5')), **changes}
        return {name: value for name, value in variables.items() if value is not None}
    return change


@pytest.mark.parametrize('changes', [
    {}, {'RANK_ID': None, 'POD_NAME': '1'}, {'POD_NAME': '1'},
    # Within a container the logical number differs from the server's.
    {'ASCEND_DEVICE_ID': '1', 'DEVICE_ID': '5'},
])
def test_a_rank_of_a_job(job, changes):
    assert rank_from_environment(job(**changes)) == NpuRank(1, 2)


CHIEF = {'RANK_SIZE': None, 'RANK_TABLE_FILE': None, 'CM_CHIEF_IP': '10.0.0.1',
         'CM_CHIEF_PORT': '60001', 'CM_CHIEF_DEVICE': '0', 'CM_WORKER_SIZE': '2',
         'CM_WORKER_IP': '10.0.0.2'}


def test_a_chief_may_stand_for_the_table(job):
    assert rank_from_environment(job(**CHIEF)) == NpuRank(1, 2)


def test_a_chief_knows_the_rank(job):
    assert rank_from_environment(job(**CHIEF, RANK_ID=None)) == NpuRank(None, 2)


def test_empty_variables_are_removed_for_the_adapter():
    environment = {'RANK_SIZE': '', 'CM_WORKER_SIZE': '', 'RANK_ID': '0', 'JOB_ID': '', 'PATH': ''}
    remove_empty(environment)
    assert environment == {'RANK_ID': '0', 'PATH': ''}


@pytest.mark.parametrize('changes, part', [
    ({'JOB_ID': None}, 'JOB_ID must be set for a job of 2 NPUs'),
    ({'JOB_ID': ''}, 'JOB_ID must be set'),
    ({'RANK_ID': None}, 'RANK_ID must be set, from 0 to 1'),
    ({'RANK_ID': '2'}, 'RANK_ID=2 must be less than the number of ranks, 2'),
    ({'RANK_ID': 'one'}, 'RANK_ID=one must be an integer'),
    ({'POD_NAME': 'training-1'}, 'POD_NAME=training-1 must be an integer'),
    ({'POD_NAME': '0'}, 'RANK_ID=1 and POD_NAME=0 differ'),
    ({'RANK_TABLE_FILE': None}, 'RANK_TABLE_FILE must be set for a job of 2 NPUs'),
    ({'RANK_TABLE_FILE': '/no/such.json'}, 'the rank table /no/such.json cannot be read'),
    ({'ASCEND_DEVICE_ID': None}, 'ASCEND_DEVICE_ID must be set'),
    ({'ASCEND_DEVICE_ID': '4'}, 'gives rank 1 the device 5, but ASCEND_DEVICE_ID=4'),
    ({'RANK_SIZE': '4'}, 'describes 2 devices, but the job has 4'),
    ({**CHIEF, 'RANK_TABLE_FILE': '/table'}, 'RANK_TABLE_FILE and CM_WORKER_SIZE are both set'),
    ({**CHIEF, 'CM_CHIEF_PORT': None, 'CM_WORKER_IP': None},
     'CM_WORKER_SIZE=2 also needs CM_CHIEF_PORT and CM_WORKER_IP'),
])
def test_what_cannot_be_a_rank_of_a_job_is_refused(job, changes, part):
    assert part in refusal(job(**changes))


@pytest.mark.parametrize('change, part', [
    (lambda entry: entry.update(rank_id='1'), 'rank_ids are 1, 1'),
    (lambda entry: entry.update(device_ip='192.168.100.102'), 'two devices have the device_ip'),
    (lambda entry: entry.update(device_id='5'), 'has the device_id 5 twice'),
])
def test_a_table_in_disorder_is_refused(job, written, change, part):
    table = server_table('4', '5')
    environment = job()
    change(table['server_list'][0]['device'][0])
    assert environment['RANK_TABLE_FILE'] == written(table)
    assert part in refusal(environment)


def test_what_runs_on_one_device_takes_no_job(job):
    with pytest.raises(PSENetError, match='RANK_SIZE=8 is for training on several NPUs'):
        check_one_device({'RANK_SIZE': '8'})
    with pytest.raises(PSENetError, match='RANK_SIZE=2 is for training on several NPUs'):
        check_one_device(job())
    with pytest.raises(PSENetError, match='set CM_WORKER_SIZE=1 or unset it'):
        check_one_device(job(**CHIEF))
