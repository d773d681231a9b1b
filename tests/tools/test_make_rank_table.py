"""Rank tables from hccn.conf or by hand, in both templates."""

import json
import subprocess
import sys

import pytest

from tools.make_rank_table import Server, ranked, read_hccn_conf, table_text, write_table
from training.devices.npu.job import read_rank_table
from utils.errors import PSENetError

# As in the published tables: 192.168.(100 + i % 4).101 for devices 0 to 3, .100 for 4 to 7.
ADDRESSES = {number: f'192.168.{100 + number % 4}.{101 - number // 4}'
             for number in range(8)}
CONF = ''.join(f'address_{number}={ADDRESSES[number]}\nnetmask_{number}=255.255.255.0\n'
               for number in range(8))


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / 'hccn.conf'
    path.write_text(CONF)
    return path


def refusal(function, *arguments):
    with pytest.raises(PSENetError) as error:
        function(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_hccn_conf_has_an_address_for_each_device(conf):
    assert read_hccn_conf(str(conf)) == ADDRESSES


@pytest.mark.parametrize('text, addresses', [
    (' address_0 = 10.0.0.1 \r\nIPv6address_0=fe80::1\n#address_1=10.0.0.2\n', {0: '10.0.0.1'}),
    ('gateway_0=10.0.0.9\naddress_7=10.0.0.8', {7: '10.0.0.8'})])
def test_other_lines_of_hccn_conf_are_passed_over(conf, text, addresses):
    conf.write_bytes(text.encode())
    assert read_hccn_conf(str(conf)) == addresses


def test_a_hccn_conf_that_cannot_be_used(conf, tmp_path):
    assert 'cannot be read' in refusal(read_hccn_conf, str(tmp_path / 'none'))
    conf.write_text('send_arp_status_0=1\n')
    assert 'has no line address_<device>=<address>; hccn_tool' in refusal(read_hccn_conf, str(conf))
    conf.write_text('address_0=10.0.0.1\naddress_0=10.0.0.2\n')
    assert 'two addresses for one device' in refusal(read_hccn_conf, str(conf))


def test_template_1():
    table = json.loads(table_text(ranked([Server('10.0.0.1', ADDRESSES)], [4, 5]), 1))
    assert table == {
        'version': '1.0', 'status': 'completed', 'server_count': '1', 'server_list': [{
            'server_id': '10.0.0.1', 'device': [
                {'device_id': '4', 'device_ip': '192.168.100.100', 'rank_id': '0'},
                {'device_id': '5', 'device_ip': '192.168.101.100', 'rank_id': '1'}]}]}


def test_template_2():
    table = json.loads(table_text(ranked([Server('10.0.0.1', ADDRESSES)], []), 2))
    group, = table.pop('group_list')
    assert table == {
        'board_id': '0x0000', 'chip_info': '910', 'deploy_mode': 'lab', 'status': 'completed',
        'group_count': '1', 'para_plane_nic_location': 'device', 'para_plane_nic_num': '8',
        'para_plane_nic_name': [f'eth{number}' for number in range(8)]}
    instances = group.pop('instance_list')
    assert group == {'group_name': '', 'device_num': '8', 'server_num': '1', 'instance_count': '8'}
    assert instances[5] == {'devices': [{'device_id': '5', 'device_ip': '192.168.101.100'}],
                            'rank_id': '5', 'server_id': '10.0.0.1'}


@pytest.mark.parametrize('template', [1, 2])
def test_what_is_written_is_read_again(tmp_path, template):
    servers = [Server('a', {0: '10.0.0.1', 1: '10.0.0.2'}), Server('b', {0: '10.0.1.1',
                                                                        1: '10.0.1.2'})]
    devices = ranked(servers, [1, 0])
    assert [device[:3] for device in devices] == [(0, 'a', 1), (1, 'a', 0), (2, 'b', 1),
                                                  (3, 'b', 0)]
    path = str(tmp_path / 'table.json')
    write_table(path, table_text(devices, template))
    assert read_rank_table(path) == tuple(devices)


@pytest.mark.parametrize('addresses, devices, part', [
    (ADDRESSES, [0, 0], 'the device_ip 192.168.100.101'),
    ({0: 'npu0'}, [], "the device_ip 'npu0', which is not an IPv4 address"),
])
def test_devices_that_no_job_can_run_on(addresses, devices, part):
    message = refusal(table_text, ranked([Server('a', addresses)], devices), 1)
    assert message.startswith('no job can run on these devices: ')
    assert part in message


def test_a_device_without_an_address():
    assert 'server a has no address for device 8' in refusal(ranked, [Server('a', ADDRESSES)], [8])


def test_a_table_that_is_there_is_kept(tmp_path):
    path = tmp_path / 'table.json'
    path.write_text('before')
    assert 'exists already' in refusal(write_table, str(path), 'after')
    assert path.read_text() == 'before'
    write_table(str(path), 'after', overwrite=True)
    assert path.read_text() == 'after'
    assert 'cannot write' in refusal(write_table, str(tmp_path / 'none' / 'table.json'), 'after')
    assert [one.name for one in tmp_path.iterdir()] == ['table.json']


def command(project_root, directory, *arguments):
    return subprocess.run(
        [sys.executable, '-m', 'tools.make_rank_table', *arguments],
        cwd=str(directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        check=False)


def test_the_command_makes_and_checks_a_table(project_root, conf, tmp_path):
    made = command(project_root, tmp_path, f'--server=10.0.0.1:{conf}')
    assert made.returncode == 0, made.stdout
    assert 'wrote rank_table_8p.json: 8 ranks' in made.stdout
    assert 'rank 4: server 10.0.0.1, device 4, 192.168.100.100' in made.stdout
    checked = command(project_root, tmp_path, '--check=rank_table_8p.json')
    assert checked.returncode == 0
    assert 'rank_table_8p.json can be used: 8 ranks' in checked.stdout
    assert 'exists already' in command(project_root, tmp_path, f'--server=a:{conf}').stdout


def test_the_command_takes_addresses_by_hand(project_root, tmp_path):
    made = command(project_root, tmp_path, '--devices=0,1', '--device_ips=10.0.0.1,10.0.0.2',
                   '--template=2', '--out=table.json')
    assert made.returncode == 0, made.stdout
    assert 'group_list' in (tmp_path / 'table.json').read_text()


@pytest.mark.parametrize('arguments, part', [
    (['--devices=0-3'], '--devices=0-3 must be device numbers'),
    (['--devices=0', '--device_ips=10.0.0.1,10.0.0.2'], '2 addresses, but --devices has 1 numbers'),
    (['--devices=0', '--device_ips=10.0.0.1', '--server=a:conf'], 'for one server without a file'),
    (['--server=a:conf'], 'conf cannot be read'),
    (['--check=none.json'], 'the rank table none.json cannot be read'),
    (['--template=3'], '--template'),
])
def test_mistakes_get_one_sentence(project_root, tmp_path, arguments, part):
    shown = command(project_root, tmp_path, *arguments)
    assert shown.returncode == 1
    assert shown.stdout.startswith('error: ')
    assert part in shown.stdout
    assert shown.stdout.count('\n') == 1
