"""Which ranks a server starts, on which devices and cores."""

import json

import pytest

from tools.launch_npu import Place, checkpoint_folder, places, plan
from utils.errors import PSENetError


@pytest.fixture
def two_servers(tmp_path):
    """The table of two servers with four devices each."""
    servers = [{'server_id': name, 'device': [
        {'device_id': str(number), 'device_ip': f'10.0.{first}.{number}',
         'rank_id': str(first + number)} for number in range(4)]}
        for name, first in (('a', 0), ('b', 4))]
    path = tmp_path / 'rank_table_8p.json'
    path.write_text(json.dumps({'version': '1.0', 'status': 'completed', 'server_count': '2',
                                'server_list': servers}))
    return str(path)


def test_the_default_is_the_table_of_eight_ranks_beside_the_script(two_servers, tmp_path):
    size, here, path = places({}, str(tmp_path))
    assert (size, path) == (8, two_servers)
    assert here == [Place(rank, rank, rank) for rank in range(4)]


def test_a_second_server_starts_its_own_ranks(two_servers, tmp_path):
    _, here, _ = places({'FIRST_RANK': '4', 'RANK_SIZE': '8', 'DEVICES': '4,5,6,7'}, str(tmp_path))
    assert here == [Place(4 + number, number, 4 + number) for number in range(4)]


def test_ranks_that_begin_in_the_middle_of_a_server(two_servers, tmp_path):
    with pytest.raises(PSENetError, match=r'server b in .* are 4, 5, 6, 7, but must be cons'):
        places({'FIRST_RANK': '5'}, str(tmp_path))


@pytest.mark.parametrize('environment, device', [
    ({}, 0), ({'DEVICE_ID': '3'}, 3), ({'ASCEND_DEVICE_ID': '2', 'DEVICE_ID': '3'}, 2),
    ({'DEVICES': '5'}, 5)])
def test_one_rank_needs_no_table(environment, device, tmp_path):
    assert places({'RANK_SIZE': '1', **environment}, str(tmp_path)) == (
        1, [Place(0, device, device)], None)


def test_cores_are_shared_out_with_as_many_readers(two_servers, tmp_path):
    ranks = plan({}, ['--restore'], str(tmp_path), frozenset([9, 1, 2, 3, 4, 5, 6, 7, 8]))
    assert [sorted(rank.cores) for rank in ranks] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert ranks[0].command[2:] == ('--num_readers=2', '--restore')


def test_there_are_never_more_readers_than_are_started(two_servers, tmp_path):
    ranks = plan({}, [], str(tmp_path), frozenset(range(192)))
    assert len(ranks[3].cores) == 48
    assert ranks[3].command[2:] == ('--num_readers=16',)


@pytest.mark.parametrize('environment, cores', [({}, 3), ({'BIND_CORES': '0'}, 8)])
def test_cores_that_are_too_few_or_not_wanted_are_left_alone(two_servers, tmp_path, environment,
                                                            cores):
    ranks = plan(environment, [], str(tmp_path), frozenset(range(cores)))
    assert {rank.cores for rank in ranks} == {frozenset()}
    assert ranks[0].command[2:] == ()


def test_output_goes_to_the_checkpoint_folder_but_for_rank_0(two_servers, tmp_path):
    ranks = plan({}, ['--checkpoint_path=run'], str(tmp_path), frozenset())
    assert [rank.output for rank in ranks] == [None] + [f'run/rank_{r}.out' for r in (1, 2, 3)]
    first = plan({}, [], str(tmp_path), frozenset())[1]
    assert first.output == str(tmp_path / 'checkpoint' / 'rank_1.out')
    assert first.log == str(tmp_path / 'checkpoint' / 'rank_1.log')


@pytest.mark.parametrize('arguments, directory', [
    ([], None), (['--restore'], None), (['--checkpoint_path=a', '--checkpoint_path', 'b'], 'b'),
    (['-checkpoint_path', 'a', '-checkpoint_path=b=c'], 'b=c'), (['--checkpoint_path'], None)])
def test_the_checkpoint_folder_among_the_arguments(arguments, directory):
    assert checkpoint_folder(arguments) == directory
