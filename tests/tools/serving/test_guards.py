"""Who is refused, and what every answer says to browsers."""

import pytest

from tests.tools.serving.stand_in import open_stage


@pytest.mark.parametrize('host, status', [
    ('127.0.0.1:8080', 200), ('localhost', 200), ('LOCALHOST:9000', 200), ('[::1]:8080', 200),
    ('127.0.0.2', 200), ('evil.example', 403), ('127.0.0.1.evil.example', 403), ('', 403),
    ('192.168.0.1:8080', 403)])
def test_at_a_loopback_address_no_other_name_is_served(stage, host, status):
    answer = stage.client.get('/health', headers={'Host': host})
    assert answer.status_code == status
    if status == 403:
        assert answer.get_json() == {'status': 403, 'error': 'the Host of the request is not this '
                                     'machine; use 127.0.0.1 or localhost'}


def test_at_other_addresses_names_are_unknown():
    with open_stage(host='192.168.0.1') as stage:
        assert stage.client.get('/health', headers={'Host': 'gpu7.lan'}).status_code == 200


@pytest.mark.parametrize('origin, status', [
    (None, 200), ('http://localhost:8080', 200), ('http://evil.example', 403), ('null', 403),
    ('http://localhost', 403), ('', 403), ('http://localhost:8080.evil.example', 403)])
def test_pages_of_other_sites_cannot_post(stage, origin, status):
    headers = {'Host': 'localhost:8080', **({} if origin is None else {'Origin': origin})}
    answer = stage.detect(headers=headers)
    assert answer.status_code == status
    assert stage.network.runs == (status == 200)


@pytest.mark.parametrize('address', ['/', '/health', '/nothing', '/static/page.js'])
def test_every_answer_is_protected(stage, address):
    headers = stage.client.get(address).headers
    policy = headers['Content-Security-Policy']
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert 'unsafe' not in policy
    assert headers['X-Content-Type-Options'] == 'nosniff'
    assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'
    assert 'Access-Control-Allow-Origin' not in headers
