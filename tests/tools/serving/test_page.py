"""The page in a real browser, with a network that takes light for text."""

import json
import struct
import threading

import cv2
import numpy as np
import pytest

from tests.tools.serving.stand_in import TEXTS, draw_texts, encoded, listening, open_stage
from tools.serving.screenshot import (
    MISSING,
    has_browser,
    open_browser,
    page_state,
    screenshot,
    upload,
    wait_until,
)
from tools.serving.service import Settings
from utils.errors import PSENetError
from utils.image_io import read_image, write_image

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')
pytest.importorskip('selenium', reason='Selenium is not installed; run make setup-tools')
pytestmark = pytest.mark.skipif(not has_browser(), reason=MISSING)

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}));
for (const name of ['dragover', 'drop']) {
  document.querySelector('.drop').dispatchEvent(
      new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: data}));
}
"""
SLIDE = """
const slider = document.getElementById(arguments[0]);
slider.value = arguments[1];
slider.dispatchEvent(new Event('input', {bubbles: true}));
"""


class Page:
    """The page of a fresh server, whose network can be looked into."""

    def __init__(self, browser, stage, server, directory):
        self.browser, self.stage, self.server, self.directory = browser, stage, server, directory
        self.picture = str(directory / 'img_1.png')
        write_image(self.picture, draw_texts())
        browser.get(server.url)

    def text(self, name):
        return self.browser.find_element('id', name).text

    def boxes(self):
        return self.browser.find_elements('css selector', '#boxes .line')

    def upload(self, path=None):
        upload(self.browser, path or self.picture)

    def slide(self, name, value):
        self.browser.execute_script(SLIDE, name, value)

    def wait(self, condition):
        wait_until(self.browser, lambda _: condition())

    def shown(self, name):
        return self.browser.find_element('id', name).is_displayed()


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    directory = tmp_path_factory.mktemp('downloads')
    with open_browser(downloads=str(directory)) as started:
        started.downloads = directory
        yield started


@pytest.fixture
def page(browser, tmp_path):
    with open_stage(queue_size=0, max_upload_mb=1) as stage, listening(stage) as server:
        yield Page(browser, stage, server, tmp_path)


def test_an_upload_shows_its_boxes_over_the_picture(page):
    assert page_state(page.browser) == 'empty'
    page.upload()
    assert page_state(page.browser) == 'result'
    assert page.text('heading') == '1 box'
    assert page.text('status') == '1 box found in img_1.png'
    assert '320 \u00d7 256 pixels' in page.text('size')
    assert all(page.text(f'seconds-{part}').endswith('s')
               for part in ('read', 'network', 'post_processing'))
    line, = page.boxes()
    assert line.is_displayed()
    picture = page.browser.find_element('id', 'picture').rect
    scale = picture['width'] / 320
    assert scale > 1
    # The box is 128 x 64 at 32, 32, wherever the picture stands and however large it is.
    assert line.rect['width'] == pytest.approx(127 * scale, abs=3 + 3 * scale)
    assert line.rect['x'] == pytest.approx(picture['x'] + 32 * scale, abs=3 + 3 * scale)
    assert line.rect['y'] == pytest.approx(picture['y'] + 32 * scale, abs=3 + 3 * scale)


def test_a_dropped_picture_is_taken(page):
    from base64 import b64encode

    page.browser.execute_script(DROP, b64encode(encoded()).decode())
    page.wait(lambda: page_state(page.browser) == 'result')
    assert 'dropped.png' in page.text('size')
    assert len(page.boxes()) == 1


def test_a_slider_changes_the_boxes_and_runs_no_network(page):
    page.upload()
    page.slide('seg_map_thresh', 0.5)
    page.wait(lambda: len(page.boxes()) == 3)
    assert page.text('seg_map_thresh-value') == '0.5'
    assert page.text('heading') == '3 boxes'
    page.slide('min_box_side', 100)
    page.wait(lambda: page.text('heading') == 'No boxes')
    assert page.shown('none')
    page.browser.find_element('id', 'reset').click()
    page.wait(lambda: page.text('heading') == '1 box')
    assert page.text('min_box_side-value') == '0'
    assert page.stage.network.runs == 1


def test_sliders_move_by_keyboard(page):
    page.upload()
    page.browser.find_element('id', 'seg_map_thresh').send_keys('\ue012' * 15)  # arrow left
    page.wait(lambda: len(page.boxes()) == 2)
    assert page.text('seg_map_thresh-value') == '0.75'


def test_kernels_are_shown_one_by_one(page):
    page.upload()
    kernel = page.browser.find_element('id', 'kernel')
    sizes = []
    for number in range(1, 7):
        page.browser.find_element('id', f'tab-{number}').click()
        page.wait(kernel.is_displayed)
        sizes.append(page.browser.execute_script(
            'const c = arguments[0]; const d = c.getContext("2d").getImageData('
            '0, 0, c.width, c.height).data; let n = 0;'
            'for (let i = 3; i < d.length; i += 4) n += d[i] === 215; return n', kernel))
    assert sizes[-1] == 32 * 16
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 6
    assert not page.shown('boxes')
    page.browser.find_element('id', 'underneath').click()
    assert not page.shown('picture')
    page.browser.find_element('id', 'tab-6').send_keys('\ue014')  # arrow right: round to boxes
    assert page.browser.switch_to.active_element.get_attribute('id') == 'tab-0'
    assert page.shown('boxes')
    assert not kernel.is_displayed()


def test_downloads_are_the_result_file_and_the_json(page):
    page.upload()
    page.slide('seg_map_thresh', 0.8)
    page.wait(lambda: len(page.boxes()) == 2)
    directory = page.browser.downloads
    for name in ('result-file', 'json-file'):
        page.browser.find_element('id', name).click()
    page.wait(lambda: all((directory / f'res_img_1.{kind}').exists() for kind in ('txt', 'json')))
    answer = json.loads((directory / 'res_img_1.json').read_text())
    lines = [','.join(str(value) for point in box['points'] for value in point)
             for box in answer['boxes']]
    assert len(lines) == 2
    assert (directory / 'res_img_1.txt').read_bytes().decode() == ''.join(f'{x}\r\n' for x in lines)


def test_a_box_is_marked_in_the_list_and_in_the_picture(page):
    page.upload()
    page.slide('seg_map_thresh', 0.5)
    page.wait(lambda: len(page.boxes()) == 3)
    second = page.browser.find_elements('css selector', '#list button')[1]
    assert second.text.split('\n') == [
        '2', '95 \u00d7 79 pixels, score 0.86', 'at 192, 64']
    page.browser.execute_script('arguments[0].focus()', second)
    assert ['chosen' in line.get_attribute('class') for line in page.boxes()] == [
        False, True, False]


def test_outlines_take_the_place_of_boxes(page):
    page.upload()
    page.browser.execute_script(
        "const shape = document.getElementById('output_shape'); shape.value = 'polygon';"
        "shape.dispatchEvent(new Event('change', {bubbles: true}));")
    page.wait(lambda: 'output_shape=polygon' in page.browser.find_element(
        'id', 'json-file').get_attribute('href'))
    assert len(page.boxes()) == 1


def test_a_text_file_is_refused_in_a_sentence(page):
    path = page.directory / 'notes.txt'
    path.write_text('no picture')
    page.upload(str(path))
    assert page_state(page.browser) == 'empty'
    assert page.text('alert-text') == 'The upload is not an image; send a JPEG or PNG file.'
    assert not page.shown('retry')
    page.upload()
    assert not page.shown('alert')
    assert len(page.boxes()) == 1


def test_a_large_file_is_refused_without_being_sent(page):
    path = page.directory / 'large.png'
    path.write_bytes(encoded() + bytes(2 ** 20))
    page.upload(str(path))
    assert page.text('alert-text').startswith('Large.png exceeds the 1 MB')


def test_a_full_queue_is_said_and_a_second_try_works(page):
    page.stage.network.may_run.clear()
    busy = threading.Thread(target=page.stage.detect)
    busy.start()
    assert page.stage.network.entered.wait(60)
    page.upload()
    assert 'queue is full; try again in' in page.text('alert-text')
    page.stage.network.may_run.set()
    busy.join()
    page.browser.find_element('id', 'retry').click()
    page.wait(lambda: page_state(page.browser) == 'result')
    assert not page.shown('alert')


def test_loading_can_be_cancelled_and_controls_wait(page):
    page.stage.network.may_run.clear()
    page.browser.find_element('id', 'file').send_keys(page.picture)
    assert page_state(page.browser) == 'loading'
    assert page.browser.switch_to.active_element.get_attribute('id') == 'cancel'
    assert not page.browser.find_element('id', 'seg_map_thresh').is_enabled()
    page.browser.switch_to.active_element.click()
    assert page_state(page.browser) == 'empty'
    assert page.text('status') == 'Cancelled'
    assert not page.shown('alert')


def test_what_the_server_dropped_can_be_uploaded_again(page):
    page.upload()
    page.stage.service._kept.clear()
    page.slide('seg_map_thresh', 0.5)
    page.wait(lambda: page.shown('alert'))
    assert 'upload the image again' in page.text('alert-text')
    page.browser.find_element('id', 'retry').click()
    page.wait(lambda: len(page.boxes()) == 3)
    assert page.stage.network.runs == 2


def test_nothing_is_wider_than_a_telephone(page):
    with_device = {'width': 360, 'height': 700, 'deviceScaleFactor': 1, 'mobile': False}
    page.browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', with_device)
    for act in (lambda: None, page.upload):
        act()
        assert page.browser.execute_script('return document.documentElement.scrollWidth') == 360
    page.browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
                                 dict(with_device, width=1280, height=900))


def test_a_camera_s_turn_of_a_picture_is_passed_over_as_by_the_detector(page):
    jpeg = encoded('.jpg')
    # A TIFF directory with one entry: orientation (0x112), SHORT, one value, 6 = rotate by 90.
    app1 = b'Exif\0\0MM\0*' + struct.pack('>LHHHLHHL', 8, 1, 0x112, 3, 1, 6, 0, 0)
    path = page.directory / 'turned.jpg'
    path.write_bytes(jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(app1) + 2) + app1 + jpeg[2:])
    page.upload(str(path))
    assert '320 \u00d7 256 pixels' in page.text('size')
    frame = page.browser.find_element('id', 'frame').screenshot_as_png
    shot = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(shot, (320, 256), interpolation=cv2.INTER_AREA)
    for value, left, top, width, height in TEXTS:
        inside = small[top + 8:top + height - 8, left + 8:left + width - 8]
        assert inside.mean() == pytest.approx(value, abs=8)


def test_the_console_has_no_complaint(page):
    page.browser.get_log('browser')  # those of other tests
    page.upload()
    page.browser.find_element('id', 'tab-1').click()
    page.wait(lambda: page.shown('kernel'))
    assert page.browser.get_log('browser') == []


def test_a_screenshot_shows_the_result(tmp_path):
    picture = str(tmp_path / 'a.png')
    write_image(picture, draw_texts())
    with open_stage(Settings('light')) as stage, listening(stage) as server:
        screenshot(server.url, picture, str(tmp_path / 'page.png'), size=(900, 700))
        shot = read_image(str(tmp_path / 'page.png'))
        assert shot.shape == (700, 900, 3)
        yellow = np.abs(shot - np.int16((77, 225, 255))).max(axis=2) < 40  # the box's line
        assert yellow.sum() > 100
        (tmp_path / 'notes.txt').write_text('none')
        with pytest.raises(PSENetError, match=r'notes\.txt: The upload is not an image'):
            screenshot(server.url, str(tmp_path / 'notes.txt'), str(tmp_path / 'none.png'))
