"""The server on a real port: slow and leaving clients, what is no HTTP, and a port in use."""

import json
import socket
import threading
import time

import pytest

from tests.tools.serving.stand_in import encoded, fetch, listening, open_stage
from utils.errors import PSENetError

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')


@pytest.fixture
def server(stage):
    with listening(stage) as made:
        yield made


def talk(server, *pieces):
    """Sends bytes and returns all that comes back."""
    with socket.create_connection(('127.0.0.1', server.port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        with connection.makefile('rb') as answer:
            return answer.read()


def status_of(answer):
    return int(answer.split(b' ')[1])


def body_of(answer):
    return json.loads(answer.partition(b'\r\n\r\n')[2].decode())


def head(length, line=b'POST /detect HTTP/1.1'):
    return line + b'\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n' % length


def test_an_image_over_http(server):
    status, headers, body = fetch(server.port, '/detect?seg_map_thresh=0.5', encoded())
    assert status == 200
    assert len(json.loads(body.decode())['boxes']) == 3
    assert headers['Server'] == 'PSENet'


def test_a_request_that_does_not_arrive_in_time_is_ended(server, monkeypatch):
    monkeypatch.setattr('tools.serving.server.REQUEST_SECONDS', 1)
    assert talk(server, b'GET / HTT') == b''
    answer = talk(server, head(1000), b'\x89PNG')
    assert status_of(answer) == 408
    assert body_of(answer)['error'] == 'the upload was incomplete or too slow'


def test_who_sends_too_much_can_read_why(server):
    size = 30 * 2 ** 20
    answer = talk(server, head(size), *[bytes(2 ** 20)] * 30)
    assert status_of(answer) == 413
    assert 'exceeds 20 MB' in body_of(answer)['error']


def test_an_upload_in_chunks_is_refused(server):
    answer = talk(server, b'POST /detect HTTP/1.1\r\nHost: localhost\r\n'
                  b'Transfer-Encoding: chunked\r\n\r\n4\r\n\x89PNG\r\n0\r\n\r\n')
    assert status_of(answer) == 411


def test_what_is_no_http_is_refused_in_json_without_an_echo(server):
    answer = talk(server, b'GET "<script>" a b c\r\n\r\n')
    assert json.loads(answer.decode()) == {'error': 'Bad Request', 'status': 400}


@pytest.mark.parametrize('host', [b'[::1', b']', b'a:b', b'@', b'\xff'])
def test_a_host_that_cannot_be_is_refused(server, host):
    answer = talk(server, b'GET /health HTTP/1.1\r\nHost: ' + host + b'\r\n\r\n')
    assert status_of(answer) == 403
    assert 'Host' in body_of(answer)['error']


def test_an_empty_body_is_no_image(server):
    answer = talk(server, head(0))
    assert status_of(answer) == 400
    assert 'has no image' in body_of(answer)['error']


def test_a_request_that_claims_to_be_continued_is_one_request(server):
    answer = talk(server, head(0, b'GET /health HTTP/1.1'), b'GET /nothing HTTP/1.1\r\n\r\n')
    assert answer.count(b'HTTP/1.0') == 1
    assert b'Connection: close' in answer


def test_more_connections_than_may_be_wait(monkeypatch):
    monkeypatch.setattr('tools.serving.server.MAX_CONNECTIONS', 1)
    with open_stage() as stage, listening(stage) as server:
        stage.network.may_run.clear()
        first = threading.Thread(target=talk, args=(server, head(len(encoded())), encoded()))
        first.start()
        assert stage.network.entered.wait(60)
        with socket.create_connection(('127.0.0.1', server.port), timeout=60) as second:
            second.sendall(head(0, b'GET /health HTTP/1.1'))
            stage.network.may_run.set()
            assert second.makefile('rb').read().startswith(b'HTTP/1.0 200')
        first.join()


def wait_for(condition):
    """Waits until a condition is true, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_job_of_a_client_that_left_is_dropped():
    with open_stage(queue_size=1) as stage, listening(stage) as server:
        stage.network.may_run.clear()
        first = threading.Thread(target=talk, args=(server, head(len(encoded())), encoded()))
        first.start()
        assert stage.network.entered.wait(60)
        with socket.create_connection(('127.0.0.1', server.port), timeout=60) as second:
            second.sendall(head(len(encoded())) + encoded())
            wait_for(lambda: stage.service.health()['waiting'] == 1)
        wait_for(lambda: stage.service.health()['waiting'] == 0)
        stage.network.may_run.set()
        first.join()
        assert stage.network.runs == 1


def test_whether_a_client_has_left_is_known_without_reading():
    from tools.serving.inputs import has_left

    near, far = socket.socketpair()
    with near:
        far.sendall(b'more')
        assert not has_left(near)
        far.close()
        assert has_left(near)
    assert not has_left(None)


def test_a_port_in_use_and_a_host_of_somebody_else_are_said_in_a_sentence(server):
    from tools.serving.server import Server

    for host, port in (('127.0.0.1', server.port), ('203.0.113.1', 0), ('no host', 0)):
        with pytest.raises(PSENetError, match=f'--host={host} --port={port} '):
            Server(host, port)
