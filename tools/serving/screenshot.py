"""The page in a headless Chromium: for its tests, and for pictures of it."""

import io
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, Tuple

from PIL import Image

from utils.errors import PSENetError, extra_package

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

MISSING = 'chromium is not installed; run make setup-browser'
# Without a sandbox: only pages of this project are opened, and in containers there is none.
_ARGUMENTS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
              '--disable-background-networking', '--disable-component-update', '--disable-sync',
              '--disable-dev-shm-usage', '--hide-scrollbars')
_WAIT_SECONDS = 60


def has_browser() -> bool:
    """Whether Chromium and its driver are there."""
    return bool(shutil.which('chromium') and shutil.which('chromedriver'))


@contextmanager
def open_browser(size: Tuple[int, int] = (1280, 900), downloads: str = '') -> Iterator['Chrome']:
    """Starts a browser with a profile of its own, and ends it.

    Args:
        size: (width, height) of the page in pixels.
        downloads: folder for what is downloaded.

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
            # A window cannot be as narrow as a telephone; a device can.
            browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
                'width': size[0], 'height': size[1], 'deviceScaleFactor': 1, 'mobile': False})
            yield browser
    finally:
        # Its processes may still be about to end, and write.
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
    # Named, or Selenium would look for a driver in the network.
    return webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))


def wait_until(browser: 'Chrome', condition: Callable[['Chrome'], bool]) -> None:
    """Waits for the page.

    Raises:
        TimeoutException: the condition does not come true within a minute.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, _WAIT_SECONDS, poll_frequency=0.05).until(condition)


def page_state(browser: 'Chrome') -> str:
    """``empty``, ``loading`` or ``result``."""
    return browser.execute_script('return document.body.dataset.state')


def upload(browser: 'Chrome', image_path: str) -> None:
    """Chooses a picture on the page and waits for what comes of it."""
    browser.find_element('id', 'file').send_keys(os.path.abspath(image_path))
    wait_until(browser, lambda page: page_state(page) != 'loading')


def screenshot(url: str, image_path: str, output_png: str,
               size: Tuple[int, int] = (1280, 900)) -> None:
    """Has a picture detected on the page, and photographs the page.

    Args:
        url: of a server that runs.
        image_path: the picture to upload.
        output_png: file to write.
        size: (width, height) of the page in pixels.

    Raises:
        PSENetError: there is no browser, the file cannot be written, or the page shows an error.
    """
    with open_browser(size) as browser:
        browser.get(url)
        upload(browser, image_path)
        if page_state(browser) != 'result':
            error = browser.find_element('id', 'alert-text').text
            raise PSENetError(f'the page has no result for {image_path}: {error}')
        _write(browser.get_screenshot_as_png(), output_png)


def _write(png: bytes, path: str) -> None:
    """Writes a picture with a palette, which makes it less than half as large."""
    image = Image.open(io.BytesIO(png)).convert('RGB').quantize(256, dither=Image.Dither.NONE)
    try:
        image.save(path, 'png', optimize=True)
    except OSError as error:
        raise PSENetError(f'cannot write {path} ({error.strerror})') from None
