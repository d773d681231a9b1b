"""Rank tables of both templates: what they say, and which are refused."""

import copy
import json

import pytest

from training.devices.npu.job import RankedDevice, RankTableError, parse_rank_table, read_rank_table

ONE_SERVER = {
    'version': '1.0', 'status': 'completed', 'server_count': '1', 'server_list': [{
        'server_id': '10.0.0.1', 'host_nic_ip': 'reserve', 'device': [
            {'device_id': '4', 'device_ip': '192.168.100.100', 'rank_id': '1'},
            {'device_id': '5', 'device_ip': '192.168.101.100', 'rank_id': '0'}]}]}
TWO_SERVERS = {
    'version': '1.0', 'status': 'completed', 'server_count': '2', 'server_list': [
        {'server_id': f'node_{server}', 'device': [
            {'device_id': str(number), 'rank_id': str(2 * server + number),
             'device_ip': f'192.168.{server}.{number}'} for number in (0, 1)]}
        for server in (0, 1)]}
GROUPS = {
    'board_id': '0x0000', 'chip_info': '910', 'deploy_mode': 'lab', 'status': 'completed',
    'group_count': '1', 'para_plane_nic_location': 'device', 'para_plane_nic_num': '2',
    'para_plane_nic_name': ['eth0', 'eth1'], 'group_list': [{
        'group_name': '', 'device_num': '2', 'server_num': '1', 'instance_count': '2',
        'instance_list': [
            {'devices': [{'device_id': '0', 'device_ip': '192.168.10.2'}], 'rank_id': '0',
             'server_id': '10.0.0.1'},
            {'devices': [{'device_id': '1', 'device_ip': '192.168.11.2'}], 'rank_id': '1',
             'server_id': '10.0.0.1'}]}]}


def changed(table, *changes):
    """A copy of a table with values replaced: a change is the keys down to one, and the value."""
    table = copy.deepcopy(table)
    for *keys, last, value in changes:
        place = table
        for key in keys:
            place = place[key]
        place[last] = value
    return table


def server_of(*numbers, name='s'):
    """A server with these devices; ranks follow from the position."""
    return {'server_id': name, 'device': [
        {'device_id': str(number), 'device_ip': f'10.0.0.{rank}', 'rank_id': str(rank)}
        for rank, number in enumerate(numbers)]}


def refusal(table):
    with pytest.raises(RankTableError) as error:
        parse_rank_table(json.dumps(table))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_devices_come_in_the_order_of_their_ranks():
    assert parse_rank_table(json.dumps(ONE_SERVER)) == (
        RankedDevice(0, '10.0.0.1', 5, '192.168.101.100'),
        RankedDevice(1, '10.0.0.1', 4, '192.168.100.100'))


def test_several_servers():
    assert [device[:3] for device in parse_rank_table(json.dumps(TWO_SERVERS))] == [
        (0, 'node_0', 0), (1, 'node_0', 1), (2, 'node_1', 0), (3, 'node_1', 1)]


def test_the_older_template():
    assert parse_rank_table(json.dumps(GROUPS)) == (
        RankedDevice(0, '10.0.0.1', 0, '192.168.10.2'),
        RankedDevice(1, '10.0.0.1', 1, '192.168.11.2'))


@pytest.mark.parametrize('numbers', [
    (0,), (7,), (0, 3), (4, 6), (3, 2, 1, 0), (4, 5, 6, 7), tuple(range(8))])
def test_parts_of_a_server_that_can_be_used(numbers):
    table = changed(ONE_SERVER, ('server_list', [server_of(*numbers)]))
    assert [device.device_id for device in parse_rank_table(json.dumps(table))] == list(numbers)


@pytest.mark.parametrize('numbers, part', [
    ((0, 4), 'the devices 0, 4, but 2 devices must be within 0-3 or within 4-7'),
    ((2, 3, 4, 5), '2, 3, 4, 5, but 4 devices must be within'),
    ((0, 1, 2), 'uses 3 devices (0, 1, 2), but must use 1, 2, 4 or 8'),
    ((8,), 'the device_id 8, but must be from 0 to 7'),
    (tuple(range(16)), 'the device_id 8'),
])
def test_parts_that_an_ascend_910_does_not_have_are_told_of(tmp_path, messages, numbers, part):
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(changed(ONE_SERVER, ('server_list', [server_of(*numbers)]))))
    assert [device.device_id for device in read_rank_table(str(path))] == list(numbers)
    assert 'table.json violates a rule of the Ascend 910' in messages()[0]
    assert part in messages()[0]


@pytest.mark.parametrize('numbers, part', [
    ((0, 0), 'the device_id 0 twice'),
    ((), 'its rank_ids are missing'),
])
def test_parts_of_a_server_that_cannot_be_used(numbers, part):
    assert part in refusal(changed(ONE_SERVER, ('server_list', [server_of(*numbers)])))


FIRST = ('server_list', 0, 'device', 0)
INSTANCE = ('group_list', 0, 'instance_list', 0)


@pytest.mark.parametrize('table, change, part', [
    (ONE_SERVER, ('status', 'initializing'), "status is 'initializing', but must be 'completed'"),
    (ONE_SERVER, ('status', None), "no 'status' in quotes"),
    (ONE_SERVER, ('version', '1.2'), "version is '1.2'"),
    (ONE_SERVER, ('server_count', '2'), 'server_count 2, but lists 1'),
    (ONE_SERVER, ('server_count', 1), "the table has no 'server_count' in quotes"),
    (ONE_SERVER, ('server_list', {}), "no list of objects 'server_list'"),
    (ONE_SERVER, ('server_list', 0, 'device', ['0']), "10.0.0.1 has no list of objects 'device'"),
    (ONE_SERVER, (*FIRST, 'rank_id', '2'), 'rank_ids are 0, 2, but must be the numbers from 0'),
    (ONE_SERVER, (*FIRST, 'rank_id', '0'), 'rank_ids are 0, 0'),
    (ONE_SERVER, (*FIRST, 'rank_id', 'one'), "a device of server 10.0.0.1 has the rank_id 'one'"),
    (ONE_SERVER, (*FIRST, 'device_id', 4), "the device of rank 1 has no 'device_id' in quotes"),
    (ONE_SERVER, (*FIRST, 'device_id', '-1'), "the device_id '-1', which is not a number"),
    (ONE_SERVER, (*FIRST, 'device_ip', '192.168.101.100'), 'have the device_ip 192.168.101.100'),
    (ONE_SERVER, (*FIRST, 'device_ip', '192.168.100'), "rank 1 has the device_ip '192.168.100'"),
    (ONE_SERVER, (*FIRST, 'device_ip', ''), "rank 1 has the device_ip ''"),
    (ONE_SERVER, ('server_list', 0, 'server_id', 'x' * 64), 'has 64 characters, but must have 1'),
    (ONE_SERVER, ('server_list', 0, 'server_id', ''), 'has 0 characters'),
    (TWO_SERVERS, ('server_list', 1, 'server_id', 'node_0'), 'servers have the server_id node_0'),
    (TWO_SERVERS, ('server_list', 1, server_of(0, name='b')), 'its rank_ids are 0, 0, 1'),
    (GROUPS, ('group_count', '2'), 'group_count 2, but lists 1'),
    (GROUPS, ('para_plane_nic_num', '8'), 'para_plane_nic_num 8, but lists 2'),
    (GROUPS, ('group_list', 0, 'device_num', '8'), 'device_num 8, but lists 2'),
    (GROUPS, ('group_list', 0, 'server_num', '2'), 'server_num 2, but lists 1'),
    (GROUPS, ('group_list', 0, 'instance_count', '1'), 'instance_count 1, but lists 2'),
    (GROUPS, (*INSTANCE, 'devices', []), 'the instance of rank 0 has 0 devices'),
    (GROUPS, (*INSTANCE, 'server_id', 1), "the instance of rank 0 has no 'server_id' in quotes"),
    (GROUPS, (*INSTANCE, 'rank_id', '1'), 'rank_ids are 1, 1'),
])
def test_tables_that_are_refused(table, change, part):
    assert part in refusal(changed(table, change))


def test_servers_that_differ_in_number():
    second = server_of(0, name='b')
    second['device'][0].update(rank_id='4', device_ip='10.1.1.1')
    table = changed(ONE_SERVER, ('server_count', '2'),
                    ('server_list', [server_of(0, 1, 2, 3, name='a'), second]))
    assert 'different numbers of devices (a with 4, b with 1)' in refusal(table)


@pytest.mark.parametrize('text, part', [
    ('{"status": "completed", // usable\n}', 'is not JSON (Expecting'),
    ('', 'JSON has no comments'),
    ('[]', 'neither a server_list nor a group_list'),
    ('{"status": "completed"}', 'neither a server_list nor a group_list'),
])
def test_texts_that_are_no_table(text, part):
    with pytest.raises(RankTableError) as error:
        parse_rank_table(text)
    assert part in str(error.value)


def test_a_file_is_named(tmp_path):
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(ONE_SERVER))
    assert read_rank_table(str(path)) == parse_rank_table(json.dumps(ONE_SERVER))
    path.write_text('{}')
    with pytest.raises(RankTableError, match=r'table\.json is invalid: it has neither'):
        read_rank_table(str(path))
    path.write_bytes(b'\xff')
    with pytest.raises(RankTableError, match=r'table\.json cannot be read'):
        read_rank_table(str(path))
    with pytest.raises(RankTableError, match=r'cannot be read \(No such file'):
        read_rank_table(str(tmp_path / 'none.json'))
