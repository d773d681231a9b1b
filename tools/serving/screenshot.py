"""Runs the page in headless Chromium, for tests and screenshots."""

import io
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, Tuple

from PIL import Image

from utils.errors import PSENetError, extra_package
from utils.files import replacing

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

MISSING = 'chromium is not installed; run make setup-browser'
# Without a sandbox, which containers lack; only pages of this project are opened.
_ARGUMENTS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
              '--disable-background-networking', '--disable-component-update', '--disable-sync',
              '--disable-dev-shm-usage', '--hide-scrollbars')
_WAIT_SECONDS = 60


def has_browser() -> bool:
    """Returns True if Chromium and its driver are installed."""
    return bool(shutil.which('chromium') and shutil.which('chromedriver'))


@contextmanager
def open_browser(size: Tuple[int, int] = (1280, 900), downloads: str = '') -> Iterator['Chrome']:
    """Runs a browser with a temporary profile.

    Args:
        size: (width, height) of the page in pixels.
        downloads: directory for downloads.

    Yields:
        The browser.

    Raises:
        PSENetError: Chromium or Selenium is not installed.
    """
    if not has_browser():
        raise PSENetError(MISSING)
    profile = tempfile.mkdtemp(prefix='psenet-browser-')
    try:
        with _start(profile, downloads or profile) as browser:
            # A window cannot be as narrow as a phone, but an emulated device can.
            browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
                'width': size[0], 'height': size[1], 'deviceScaleFactor': 1, 'mobile': False})
            yield browser
    finally:
        # Processes of the browser may still be writing.
        shutil.rmtree(profile, ignore_errors=True)


def _start(profile: str, downloads: str) -> 'Chrome':
    with extra_package('a browser'):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for argument in (*_ARGUMENTS, f'--user-data-dir={profile}'):
        options.add_argument(argument)
    options.add_experimental_option('prefs', {'download.default_directory': downloads})
    # Otherwise Selenium would try to download a driver.
    return webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))


def wait_until(browser: 'Chrome', condition: Callable[['Chrome'], bool]) -> None:
    """Waits until a condition is true.

    Raises:
        TimeoutException: the condition did not become true within a minute.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, _WAIT_SECONDS, poll_frequency=0.05).until(condition)


def page_state(browser: 'Chrome') -> str:
    """Returns the state of the page: ``empty``, ``loading`` or ``result``."""
    return browser.execute_script('return document.body.dataset.state')


def upload(browser: 'Chrome', image_path: str) -> None:
    """Uploads an image on the page and waits for the result."""
    browser.find_element('id', 'file').send_keys(os.path.abspath(image_path))
    wait_until(browser, lambda page: page_state(page) != 'loading')


def screenshot(url: str, image_path: str, output_png: str,
               size: Tuple[int, int] = (1280, 900)) -> None:
    """Uploads an image on the page and takes a screenshot of the result.

    Args:
        url: URL of a running server.
        image_path: image to upload.
        output_png: file to write.
        size: (width, height) of the page in pixels.

    Raises:
        PSENetError: no browser is installed, the page shows an error, or the file cannot be
            written.
    """
    with open_browser(size) as browser:
        browser.get(url)
        upload(browser, image_path)
        if page_state(browser) != 'result':
            error = browser.find_element('id', 'alert-text').text
            raise PSENetError(f'the page has no result for {image_path}: {error}')
        image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert('RGB')
    # A palette halves the size of the file.
    image = image.quantize(256, dither=Image.Dither.NONE)
    with replacing(output_png) as temporary:
        image.save(temporary, 'png', optimize=True)
