"""The API: what is asked, and what comes back, in this process."""

import contextlib
import io
import json
import logging
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.config import DetectConfig
from inference.results import read_result, write_result
from inference.thresholds import Thresholds
from tests.tools.serving.stand_in import TEXTS, draw_texts, encoded, open_stage
from tools.serving import service as service_module
from tools.serving.service import Settings
from utils.utils_tool import cfg, logger

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')


def found(answer):
    assert answer.status_code == 200, answer.get_json()
    return [np.array(box['points']) for box in answer.get_json()['boxes']]


def assert_around(points, _value, left, top, width, height):
    """Checks a box by its outermost pixels; their fractions may be cut off."""
    np.testing.assert_allclose(points.min(axis=0), (left, top), atol=1)
    np.testing.assert_allclose(points.max(axis=0), (left + width - 1, top + height - 1), atol=1)


def assert_refused(answer, status, *words):
    told = answer.get_json()
    assert (answer.status_code, told['status'], set(told)) == (status, status, {'error', 'status'})
    for word in words:
        assert word in told['error']
    assert '\n' not in told['error']


def header_of(width, height):
    """A PNG file whose header tells another size than its pixels have."""
    data = bytearray(encoded())
    data[16:24] = struct.pack('>LL', width, height)
    data[29:33] = struct.pack('>L', zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def test_boxes_of_a_form(stage):
    answer = stage.detect()
    box, = found(answer)
    assert_around(box, *TEXTS[0])
    told = answer.get_json()
    assert told['image'] == {'width': 320, 'height': 256}
    assert told['thresholds'] == Thresholds()._asdict()
    assert set(told['seconds']) == {'read', 'network', 'post_processing'}
    (x1, y1), (x2, y2) = box[1] - box[0], box[2] - box[1]
    assert x1 * y2 - y1 * x2 > 0  # clockwise, y downwards


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_boxes_of_a_body(stage, extension):
    answer = stage.client.post('/detect', data=encoded(extension), content_type='image/x')
    assert len(found(answer)) == 1


def test_other_fields_of_a_form_are_passed_over(stage):
    form = {'note': 'text', 'other': (io.BytesIO(b'file'), 'b.txt'),
            'image': (io.BytesIO(encoded()), '../../etc/passwd')}
    assert len(found(stage.client.post('/detect', data=form))) == 1


def test_thresholds_of_the_request_are_those_used(stage):
    answer = stage.detect(query='?seg_map_thresh=0.5&min_area_thresh=0&min_box_side=70')
    for box, text in zip(found(answer), TEXTS[1:]):
        assert_around(box, *text)
    assert len(found(answer)) == 2
    assert answer.get_json()['thresholds'] == {
        'seg_map_thresh': 0.5, 'min_area_thresh': 0, 'min_box_side': 70, 'min_score': 0,
        'min_region_area': 0}


def test_outlines_and_scores_of_the_request(stage):
    rectangles = stage.detect(query='?seg_map_thresh=0.5').get_json()
    answer = stage.detect(query='?seg_map_thresh=0.5&output_shape=polygon').get_json()
    assert (rectangles['output_shape'], answer['output_shape']) == ('quad', 'polygon')
    assert max(len(box['points']) for box in answer['boxes']) >= 4
    scores = [box['score'] for box in answer['boxes']]
    assert scores == [box['score'] for box in rectangles['boxes']]
    assert all(0.5 < score <= 1 for score in scores)
    middle = sorted(scores)[1]
    kept = stage.detect(query=f'?seg_map_thresh=0.5&min_score={middle - 0.001}').get_json()
    assert [box['score'] for box in kept['boxes']] == [
        score for score in scores if score >= middle]


def test_images_are_scaled_as_the_flags_say():
    with open_stage(Settings('light', DetectConfig(short_side=512))) as stage:
        box, = found(stage.detect())
        assert_around(box, *TEXTS[0])
        maps = next(iter(stage.service._kept.values())).score_maps
        assert maps.shape == (128, 160, 6)


def test_thresholds_of_the_server_are_those_used_without_others():
    with open_stage(Settings('light', DetectConfig(seg_map_thresh=0.8))) as stage:
        assert len(found(stage.detect())) == 2


def test_other_thresholds_take_no_run_of_the_network(stage):
    key = stage.detect().get_json()['id']
    counts = [len(found(stage.client.get(f'/detections/{key}?seg_map_thresh={value}')))
              for value in (0.5, 0.8, 0.9, 0.99)]
    assert counts == [3, 2, 1, 0]
    assert stage.network.runs == 1
    assert stage.client.get('/health').get_json()['network_runs'] == 1


def test_a_large_image_is_shrunk_and_its_boxes_are_in_its_own_pixels():
    with open_stage(Settings('light', DetectConfig(max_side_len=320))) as stage:
        twice = cv2.imencode('.png', cv2.resize(draw_texts(), None, fx=2, fy=2))[1].tobytes()
        box, = found(stage.detect(twice))
        assert_around(box, 250, 64, 64, 255, 127)


def test_the_result_file_has_the_bytes_that_eval_would_write(stage, tmp_path):
    key = stage.detect().get_json()['id']
    answer = stage.client.get(f'/detections/{key}/result.txt?seg_map_thresh=0.5')
    boxes = [box['points'] for box in
             stage.client.get(f'/detections/{key}?seg_map_thresh=0.5').get_json()['boxes']]
    path = write_result(str(tmp_path), 'a', np.array(boxes, np.int32))
    with open(path, 'rb') as file:
        assert answer.data == file.read()
    assert len(read_result(path)) == 3
    assert answer.headers['Content-Disposition'] == 'attachment'
    assert stage.client.get(f'/detections/{key}/result.txt?seg_map_thresh=0.99').data == b''


def test_kernels_are_pictures_of_the_score_maps(stage):
    key = stage.detect().get_json()['id']
    maps = stage.network.score_maps(cv2.cvtColor(draw_texts(), cv2.COLOR_BGR2RGB))
    for number in range(1, cfg.NUM_KERNELS + 1):
        answer = stage.client.get(f'/detections/{key}/kernels/{number}.png')
        picture = cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(picture, np.rint(255 * maps[..., number - 1]))
    assert_refused(stage.client.get(f'/detections/{key}/kernels/0.png'), 404, '1 to 6')
    assert_refused(stage.client.get(f'/detections/{key}/kernels/7.png'), 404, '1 to 6')


def test_what_was_dropped_is_to_be_uploaded_again(monkeypatch):
    monkeypatch.setattr(service_module, '_MAX_KEPT', 2)
    with open_stage() as stage:
        first, second, _ = (stage.detect().get_json()['id'] for _ in range(3))
        for address in ('', '/result.txt', '/kernels/1.png'):
            assert_refused(stage.client.get(f'/detections/{first}{address}'), 404, 'upload')
        assert stage.client.get(f'/detections/{second}').status_code == 200
        health = stage.client.get('/health').get_json()
        assert (health['kept_images'], health['kept_bytes']) == (2, 2 * 64 * 80 * 6 * 4)


@pytest.mark.parametrize('data, status, words', [
    (b'a text', 400, ['not an image', 'JPEG or PNG']),
    (b'BM' + bytes(100), 400, ['JPEG or PNG']),
    (b'\x89PNG\r\n\x1a\n', 400, ['cannot decode']),
    (encoded()[:100], 400, ['cannot decode']),
    (header_of(60000, 60000), 422, ['60000 x 60000 pixels', '178956970']),
])
def test_what_is_no_usable_image_is_refused(stage, data, status, words):
    assert_refused(stage.detect(data), status, *words)
    assert_refused(stage.client.post('/detect', data=data), status, *words)


def test_the_limit_of_pixels_holds_before_anything_is_decoded_or_waits(monkeypatch):
    with open_stage(Settings('light', DetectConfig(max_image_pixels=320 * 256 - 1))) as stage:
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was to be decoded'))
        assert_refused(stage.detect(), 422, '320 x 256')
        assert not stage.network.entered.is_set()


def test_a_form_without_the_field_or_without_an_end_is_refused(stage):
    form = {'picture': (io.BytesIO(encoded()), 'a.png')}
    assert_refused(stage.client.post('/detect', data=form), 400, 'field image')
    kind = 'multipart/form-data; boundary=b'
    start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    for body in (start + encoded(), b'--b\r\n\r\n\r\n--b--', b'nothing', b'--b--' + bytes(9),
                 (start + b'1\r\n') * 20 + b'--b--',
                 start[:-2] + b'x: y\r\n' * 2000 + b'\r\n\r\n--b--',
                 start + encoded() + b'\r\n--bb--', b'--b\r\nname="image"\r\n\r\n1\r\n--b--'):
        assert_refused(stage.client.post('/detect', data=body, content_type=kind), 400, 'image')
    assert_refused(stage.client.post('/detect', data=start, content_type='multipart/form-data'),
                   400, 'image')


def test_a_form_may_have_all_that_forms_may_have(stage):
    body = (b'preamble\r\n--b c \r\ncontent-type: image/png\r\n'
            b"CONTENT-DISPOSITION:form-data;name=image; filename*=utf-8''%E2%82%AC.png\r\n\r\n"
            + encoded() + b'\r\n--b c--\r\nepilogue')
    kind = 'multipart/form-data; charset=utf-8; boundary="b c"'
    assert len(found(stage.client.post('/detect', data=body, content_type=kind))) == 1


@pytest.mark.parametrize('query, word', [
    ('seg_map_thresh=1', 'seg_map_thresh=1.0 must be at least 0 and below 1'),
    ('seg_map_thresh=nan', 'seg_map_thresh=nan'), ('seg_map_thresh=', 'must be a number'),
    ('seg_map_thresh=high', 'seg_map_thresh=high'), ('min_area_thresh=-1', 'min_area_thresh=-1'),
    ('min_area_thresh=1.5', 'integer'), ('min_box_side=' + '9' * 30, 'at most 1000000000'),
    ('min_box_side=1&min_box_side=2', '2 times'), ('threshold=1', 'unknown parameter threshold'),
    ('min_score=1.5', 'min_score=1.5 must lie in 0 .. 1'), ('min_region_area=x', 'integer'),
    ('output_shape=round', 'output_shape=round must be quad or polygon'),
])
def test_thresholds_that_cannot_be_are_refused(stage, query, word):
    assert_refused(stage.detect(query=f'?{query}'), 400, word)
    assert not stage.network.entered.is_set()
    key = stage.detect().get_json()['id']
    for address in ('', '/result.txt'):
        assert_refused(stage.client.get(f'/detections/{key}{address}?{query}'), 400, word)


def test_an_upload_over_the_limit_is_refused_before_it_is_read():
    with open_stage(max_upload_mb=1) as stage:
        told = {'CONTENT_LENGTH': str(2 ** 20 + 1), 'wsgi.input': None}
        assert_refused(stage.client.post('/detect', environ_overrides=told), 413, '1 MB')
        assert_refused(stage.detect(encoded() + bytes(2 ** 20)), 413, '1 MB')


def test_an_upload_of_unknown_length_is_refused(stage):
    answer = stage.client.post('/detect', input_stream=io.BytesIO(encoded()),
                               environ_overrides={'HTTP_TRANSFER_ENCODING': 'chunked',
                                                  'wsgi.input_terminated': True})
    assert_refused(answer, 411, 'Content-Length')


def test_beyond_the_queue_requests_are_refused_at_once():
    with open_stage(queue_size=0) as stage:
        stage.network.may_run.clear()
        first = threading.Thread(target=stage.detect)
        first.start()
        assert stage.network.entered.wait(60)
        refused = stage.detect()
        assert_refused(refused, 429, 'try again')
        assert int(refused.headers['Retry-After']) >= 1
        stage.network.may_run.set()
        first.join()
        assert stage.detect().status_code == 200


def test_a_defect_is_logged_and_not_told(stage, monkeypatch, caplog):
    monkeypatch.setattr(logger, 'propagate', True)
    monkeypatch.setattr(stage.network, 'score_maps', lambda _: 1 / 0)
    with caplog.at_level(logging.ERROR):
        answer = stage.detect()
    assert_refused(answer, 500, 'see its log')
    assert 'ZeroDivision' not in answer.get_data(as_text=True)
    assert 'ZeroDivisionError' in caplog.text


def test_nothing_elsewhere(stage):
    assert_refused(stage.client.get('/nothing'), 404, 'nothing at this address')
    assert_refused(stage.client.get('/detect'), 405, 'method')
    assert stage.client.get('/detect').headers['Allow'] == 'POST'
    assert_refused(stage.client.options('/detect'), 405, 'method')
    for path in ('/static/../app.py', '/static/%2e%2e/app.py', '/samples/0', '/samples/..'):
        assert_refused(stage.client.get(path), 404, 'there is n')


def test_samples_are_named_by_number(tmp_path):
    for name in ('b.png', 'a <b>.jpg'):
        (tmp_path / name).write_bytes(encoded(name[-4:]))
    (tmp_path / 'secret.txt').write_text('secret')
    with open_stage(samples=str(tmp_path)) as stage:
        page = stage.client.get('/').get_data(as_text=True)
        assert 'data-name="a &lt;b&gt;.jpg"' in page
        assert stage.client.get('/samples/0').mimetype == 'image/jpeg'
        assert stage.client.get('/samples/1', headers={'Range': 'bytes=0-1'}).data == encoded()
        assert_refused(stage.client.get('/samples/2'), 404, 'no sample')


def test_names_that_are_no_text_are_shown(tmp_path):
    (tmp_path / '\udcff.png').write_bytes(encoded())
    with open_stage(Settings('\udcfe'), samples=str(tmp_path)) as stage:
        page = stage.client.get('/').get_data(as_text=True)
        assert 'data-name="\\udcff.png"' in page
        assert '\\udcfe' in page
        assert stage.client.get('/samples/0').data == encoded()
        assert stage.client.get('/health').get_json()['model'] == '\udcfe'


def test_the_page_has_the_server_s_thresholds_and_no_script_or_style_of_its_own():
    with open_stage(Settings('model.ckpt-7', DetectConfig(
            seg_map_thresh=0.55, min_area_thresh=300, min_box_side=8))) as stage:
        page = stage.client.get('/').get_data(as_text=True)
        assert 'model.ckpt-7' in page
        assert 'value="0.55"' in page
        assert 'max="300" step="1" value="300"' in page
        assert ' style=' not in page
        assert '//' not in page.replace('<!doctype', '').split('<footer')[0]
        assert page.count('<script src="/static/') == page.count('<script')


def test_the_answer_is_json_for_programs(stage):
    answer = stage.detect()
    assert answer.mimetype == 'application/json'
    assert list(json.loads(answer.data)) == [
        'id', 'image', 'thresholds', 'output_shape', 'boxes', 'seconds']


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([
    b'--b', b'\r\n--b', b'--', b'\r\n', b'\r\n\r\n', b'"', b'; name*=utf-8', b'\xff', b': ',
    b'Content-Disposition: form-data; name="image"', encoded()]), min_size=1, max_size=20))
def test_no_form_is_a_defect(pieces):
    from werkzeug.exceptions import BadRequest
    from werkzeug.wrappers import Request

    from tools.serving.inputs import read_image_bytes

    request = Request.from_values(data=b''.join(pieces), method='POST', headers={
        'Content-Type': 'multipart/form-data; boundary=b'})
    with contextlib.suppress(BadRequest):
        assert read_image_bytes(request, 1).startswith(b'\x89PNG')
