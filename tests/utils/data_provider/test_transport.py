"""What worker and consumer say to one another, and how either notices the other's end."""

import os
import threading
from multiprocessing.connection import Pipe

import pytest

from utils.data_provider.batching import BatchReport
from utils.data_provider.readers import BatchChannel, RemoteError


@pytest.fixture
def channels():
    """The consumer's end and the worker's."""
    ends = [BatchChannel(connection) for connection in Pipe()]
    yield ends
    for end in ends:
        end.close()


def test_orders_go_one_way_and_reports_the_other(channels):
    consumer, worker = channels
    consumer.send_order(7, 2)
    assert worker.receive_order() == (7, 2)
    report = BatchReport()
    report.indices += [3, 1]
    report.unreadable[5] = 'img_5.jpg is empty.'
    worker.send_report(report)
    received = consumer.receive_report()
    assert vars(received) == vars(report)


def test_nothing_of_a_worker_is_unpickled():
    ours, theirs = Pipe()
    with theirs:
        theirs.send(os.getcwd)
        consumer = BatchChannel(ours)
        with pytest.raises(RemoteError, match='not a report'):
            consumer.receive_report()
        consumer.close()


def test_a_failure_ends_what_is_received(channels):
    consumer, worker = channels
    worker.send_failure('Traceback: ...\nValueError: no\n')
    with pytest.raises(RemoteError, match='ValueError: no') as error:
        consumer.receive_report()
    assert 'Traceback: ...' in str(error.value.__cause__)


def test_the_end_is_awaited_whatever_is_said_before(channels):
    consumer, worker = channels
    waiting = threading.Thread(target=worker.wait_for_end, daemon=True)
    waiting.start()
    consumer.send_order(0, 0)
    waiting.join(0.3)
    assert waiting.is_alive()
    consumer.close()
    waiting.join(10)
    assert not waiting.is_alive()
