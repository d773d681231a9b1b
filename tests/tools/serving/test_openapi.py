"""openapi.json tells what the server does: each path with each status is asked for and compared."""

import io
import os
import re
import socket

import numpy as np
import pytest

from inference.config import DetectConfig
from tests.tools.serving.stand_in import encoded, open_stage
from tools.serving.service import Settings

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')


class TooSlow(io.RawIOBase):
    """A body that does not arrive in time."""

    def readable(self):
        return True

    def readinto(self, _):
        raise socket.timeout


def upload(stage, **arguments):
    return stage.client.post('/detect', **dict({'data': encoded()}, **arguments))


def key_of(stage):
    return upload(stage).get_json()['id']


def full(stage):
    from tools.serving import service as jobs

    def refuse(*_):
        raise jobs.QueueFullError(0.1)
    stage.service._queue.run = refuse
    return upload(stage)


def failed(stage, path):
    """A path when the image that is kept, or the sample's file, can no more be used."""
    if path.startswith('/samples'):
        os.remove(os.path.join(stage.service.settings.options.samples, 'a.png'))
        return stage.client.get('/samples/0')
    key = key_of(stage)
    broken = stage.service.kept(key)._replace(score_maps=np.zeros(0), geometry=None)
    stage.service._kept[key] = broken
    return stage.client.get(address(path, key))


def address(path, key='none'):
    return path.replace('{id}', key).replace('{number}', '1' if 'kernels' in path else '0')


def closed(stage):
    stage.service.close(60)
    return upload(stage)


def defect(stage):
    stage.network.score_maps = None
    return upload(stage)


def fetch(stage, path, query=''):
    return stage.client.get(address(path, key_of(stage)) + query)


DETECT = {
    200: upload,
    400: lambda stage: upload(stage, data=b'text'),
    408: lambda stage: upload(stage, data=None, environ_overrides={
        'wsgi.input': TooSlow(), 'CONTENT_LENGTH': '9'}),
    411: lambda stage: upload(stage, environ_overrides={'HTTP_TRANSFER_ENCODING': 'chunked'}),
    413: lambda stage: upload(stage, data=bytes(2 ** 20 + 1)),
    422: lambda stage: upload(stage, data=encoded(width=640, height=640)),
    429: full,
    500: defect,
    503: closed,
}
GET = {
    200: fetch,
    400: lambda stage, path: fetch(stage, path, '?seg_map_thresh=2'),
    404: lambda stage, path: stage.client.get(
        path.replace('{id}', 'none').replace('{number}', '9')),
    500: failed,
}


def ask(stage, path, method, status):
    if status == 403:
        return stage.client.open(address(path), method=method.upper(), headers={'Host': 'evil'})
    if status == 405:
        return stage.client.delete(address(path))
    return DETECT[status](stage) if method == 'post' else GET[status](stage, path)


def described():
    from tests.tools.serving.schema import operations
    return sorted(operations())


def test_every_path_with_every_status_is_answered_as_described(tmp_path):
    from tests.tools.serving.schema import check

    for path, method, status in described():
        (tmp_path / 'a.png').write_bytes(encoded())
        settings = Settings('light', DetectConfig(max_image_pixels=320 * 256))
        with open_stage(settings, max_upload_mb=1, samples=str(tmp_path)) as stage:
            answer = ask(stage, path, method, status)
            assert answer.status_code == status, (path, answer.data)
            check(answer, path, method)


def test_every_route_is_described(stage):
    rules = {(rule.rule.replace('<int:', '{').replace('<key', '{id').replace('<', '{')
              .replace('>', '}'), method.lower())
             for rule in stage.client.application.url_map.iter_rules()
             for method in rule.methods - {'HEAD'} if rule.endpoint != 'static'}
    assert rules == {(path, method) for path, method, _ in described()}


def test_the_server_hands_out_the_description(stage):
    from tests.tools.serving.schema import DESCRIPTION

    answer = stage.client.get('/openapi.json')
    assert answer.get_json() == DESCRIPTION
    assert DESCRIPTION['openapi'].startswith('3.0')


def test_the_description_is_whole():
    from tests.tools.serving.schema import DESCRIPTION, resolve

    def walk(part):
        if isinstance(part, dict):
            if '$ref' in part:
                assert resolve(part)
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)
    walk(DESCRIPTION)
    for path, item in DESCRIPTION['paths'].items():
        shared = item.get('parameters', [])
        for method in set(item) - {'parameters'}:
            names = {resolve(one)['name'] for one in shared + item[method].get('parameters', [])
                     if resolve(one)['in'] == 'path'}
            assert names == set(re.findall(r'{(\w+)}', path))
            assert item[method]['summary']
