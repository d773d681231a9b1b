"""The exchange between ranks, each a thread with a connection of its own."""

import threading
import uuid

import numpy as np
import pytest

PATIENCE_SECONDS = 60.0


class Job:
    """Ranks of one job."""

    def __init__(self, fake, size, timeout):
        fake()
        self.exchange = fake.module('fake_npu.exchange')
        self.hub, self.link = fake.module('fake_npu.hub').Hub, fake.module('fake_npu.link').Link
        self.size, self.timeout = size, timeout
        self.address = self.exchange.address_of('1', str(uuid.uuid4()))

    def call(self, op, arrays, name='op', members=None, **settings):
        """A call as the ops make it."""
        return self.exchange.Call(op, name, op + ' #1', tuple(sorted(settings.items())), (),
                                  tuple(members or range(self.size)), arrays)

    def peer(self, rank):
        """The rank's connection."""
        if rank:
            return self.link(self.address, rank, self.size, self.timeout)
        return self.hub(self.address, self.size, self.timeout)

    def run(self, *calls):
        """Every rank makes its call; what each got, a list of arrays or the message."""
        answers = {}

        def take_part(rank, call):
            peer = self.peer(rank)
            try:
                answers[rank] = peer.call(call)
            except self.exchange.ExchangeError as error:
                answers[rank] = str(error)
            finally:
                peer.close()
        threads = [threading.Thread(target=take_part, args=(rank, call))
                   for rank, call in enumerate(calls) if call]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        return [answers.get(rank) for rank in range(len(calls))]


@pytest.fixture
def job(fake):
    """job(size, timeout): a job that nobody has come to yet."""
    return lambda size=2, timeout=PATIENCE_SECONDS: Job(fake, size, timeout)


@pytest.mark.parametrize('op, settings, expected', [
    ('HcomAllReduce', {'reduction': 'sum'}, [[12, 6], [12, 6], [12, 6]]),
    ('HcomAllReduce', {'reduction': 'prod'}, [[48, 0], [48, 0], [48, 0]]),
    ('HcomAllReduce', {'reduction': 'min'}, [[2, 0], [2, 0], [2, 0]]),
    ('HcomAllReduce', {'reduction': 'max'}, [[6, 4], [6, 4], [6, 4]]),
    ('HcomBroadcast', {'root_rank': 2}, [[6, 4], [6, 4], [6, 4]]),
    ('HcomReduce', {'reduction': 'sum', 'root_rank': 1}, [[0, 0], [12, 6], [0, 0]]),
    ('HcomAllGather', {}, [[2, 0, 4, 2, 6, 4]] * 3),
])
def test_what_each_rank_gets(job, op, settings, expected):
    job = job(3)
    answers = job.run(*[job.call(op, [np.array([2 + 2 * rank, 2 * rank], np.int16)], **settings)
                        for rank in range(3)])
    assert [[array.tolist() for array in answer] for answer in answers] == [[row] for row in
                                                                            expected]
    assert {array.dtype for answer in answers for array in answer} == {np.dtype('int16')}


def test_a_scatter_gives_each_its_share(job):
    job = job()
    answers = job.run(*[job.call('HcomReduceScatter', [np.arange(4) * (rank + 1)],
                                 reduction='sum') for rank in range(2)])
    assert [answer[0].tolist() for answer in answers] == [[0, 3], [6, 9]]


def test_a_broadcast_is_of_a_list(job):
    job = job()
    answers = job.run(job.call('HcomBroadcast', [np.ones(2), np.int32(5)], root_rank=0),
                      job.call('HcomBroadcast', [], root_rank=0))
    assert [[array.tolist() for array in answer] for answer in answers] == [[[1, 1], 5]] * 2


def test_eight_ranks(job):
    job = job(8)
    answers = job.run(*[job.call('HcomAllReduce', [np.full(3, rank)], reduction='sum')
                        for rank in range(8)])
    assert [answer[0].tolist() for answer in answers] == [[28] * 3] * 8


def test_two_of_three_may_talk_alone(job):
    job = job(3)
    way = {'op': 'HcomSend to HcomReceive', 'members': (2, 0), 'src_rank': 2, 'dest_rank': 0}
    answers = job.run(job.call(arrays=[], **way), None, job.call(arrays=[np.array([7])], **way))
    assert answers[0][0].tolist() == [7]


def test_a_rank_alone_times_out_on_what_it_waits_in(job):
    job = job(2, timeout=0.2)
    answer, _ = job.run(job.call('HcomAllReduce', [np.ones(2)]), None)
    assert answer == 'time-out on HcomAllReduce #1: rank 1 did not come within 0.2 s'


def test_without_rank_0_there_is_no_job(job):
    job = job(2, timeout=0.2)
    with pytest.raises(job.exchange.ExchangeError, match='rank 0 cannot be met'):
        job.peer(1)


def test_ranks_that_run_different_collectives_are_told_at_once(job):
    job = job()
    answers = job.run(job.call('HcomAllReduce', [np.ones(2)], name='gradients'),
                      job.call('HcomBroadcast', [], name='weights'))
    assert answers == ['the ranks run different collectives: rank 0 HcomAllReduce #1 (gradients); '
                       'rank 1 HcomBroadcast #1 (weights)'] * 2


def test_the_time_out_names_where_the_others_wait(job):
    job = job(3, timeout=0.2)
    answers = job.run(job.call('HcomAllReduce', [np.ones(2)], name='losses'), None,
                      job.call('HcomAllReduce', [np.ones(2)], name='weights'))
    assert 'did not come within 0.2 s' in answers[0]
    assert 'which waits in HcomAllReduce #1' in answers[0]


@pytest.fixture
def pair(job):
    """(job, the connections of its two ranks)."""
    job = job()
    peers = [job.peer(0), job.peer(1)]
    yield job, peers
    for peer in peers:
        peer.close()


@pytest.mark.parametrize('lost', [0, 1])
def test_a_rank_that_ends_is_named(pair, lost):
    job, peers = pair
    peers[lost].close()
    with pytest.raises(job.exchange.ExchangeError, match=f'AllReduce #1: rank {lost} has ended'):
        peers[1 - lost].call(job.call('HcomAllReduce', [np.ones(2)]))


def test_a_second_rank_of_one_number_is_not_let_in(pair):
    job, _ = pair
    job.timeout = 0.2
    with pytest.raises(job.exchange.ExchangeError, match='it is rank 0 of another job'):
        job.peer(1)
