"""Which environments are those of one process on one NPU."""

import json

import pytest

from training.npu_environment import check_one_device
from utils.errors import PSENetError


def server_table(*devices, status='completed'):
    """A rank table of the newer form."""
    return {'version': '1.0', 'status': status, 'server_count': '1', 'server_list': [{
        'server_id': '127.0.0.1', 'device': [
            {'device_id': device, 'device_ip': '192.168.100.101', 'rank_id': str(rank)}
            for rank, device in enumerate(devices)]}]}


def group_table(*devices):
    """A rank table of the older form."""
    return {'status': 'completed', 'group_count': '1', 'group_list': [{
        'group_name': '', 'instance_list': [
            {'devices': [{'device_id': device, 'device_ip': '192.168.10.2'}],
             'rank_id': str(rank), 'server_id': '10.0.0.1'}
            for rank, device in enumerate(devices)]}]}


@pytest.mark.parametrize('environment', [
    {}, {'RANK_SIZE': '1', 'RANK_ID': '0', 'ASCEND_DEVICE_ID': '7', 'JOB_ID': '10087'},
    {'DEVICE_ID': '0'}, {'ASCEND_DEVICE_ID': '', 'RANK_TABLE_FILE': ''}, {'CM_WORKER_SIZE': '1'},
])
def test_one_device_is_taken(environment):
    check_one_device(environment)


@pytest.mark.parametrize('environment, parts', [
    ({'ASCEND_DEVICE_ID': '-1'}, ['ASCEND_DEVICE_ID=-1', 'from 0 on']),
    ({'DEVICE_ID': 'npu0'}, ['DEVICE_ID=npu0', 'from 0 on']),
    ({'RANK_SIZE': '0'}, ['RANK_SIZE=0', 'from 1 on']),
    ({'RANK_SIZE': 'one'}, ['RANK_SIZE=one']),
    ({'RANK_SIZE': '²'}, ['RANK_SIZE=²']),
    ({'RANK_SIZE': '8'}, ['RANK_SIZE=8', 'training on several NPUs is not in this version']),
    ({'CM_WORKER_SIZE': '2'}, ['CM_WORKER_SIZE=2', 'several NPUs']),
    ({'RANK_SIZE': '1', 'CM_WORKER_SIZE': '1'}, ['RANK_SIZE and CM_WORKER_SIZE']),
    ({'RANK_ID': '1'}, ['RANK_ID=1', 'must be 0']),
    ({'RANK_TABLE_FILE': '/no/such.json'}, ['RANK_TABLE_FILE=/no/such.json', 'unset it']),
])
def test_what_cannot_be_one_device_is_refused(environment, parts):
    with pytest.raises(PSENetError) as caught:
        check_one_device(environment)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize('table', [server_table('3'), group_table('3')])
def test_a_table_of_this_device_is_taken(table, tmp_path):
    check_one_device({'RANK_TABLE_FILE': written(tmp_path, table), 'RANK_ID': '0',
                      'ASCEND_DEVICE_ID': '3'})


@pytest.mark.parametrize('table, part', [
    (server_table('0', '1'), 'describes 2 devices'),
    (group_table('0', '1'), 'describes 2 devices'),
    (server_table(), 'describes 0 devices'),
    (server_table('3', status='initializing'), "status 'initializing'"),
    (server_table('2'), 'describes device 2 and the environment names device 3'),
    ({}, 'cannot be read as a rank table'),
    ([], 'cannot be read as a rank table'),
])
def test_a_table_of_something_else_is_refused(table, part, tmp_path):
    with pytest.raises(PSENetError, match=part):
        check_one_device({'RANK_TABLE_FILE': written(tmp_path, table), 'RANK_ID': '0',
                          'DEVICE_ID': '3'})


def test_a_table_without_a_rank_is_refused(tmp_path):
    with pytest.raises(PSENetError, match='RANK_ID must be set'):
        check_one_device({'RANK_TABLE_FILE': written(tmp_path, server_table('0'))})


def written(tmp_path, table):
    """Path of a file with the table."""
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(table))
    return str(path)
