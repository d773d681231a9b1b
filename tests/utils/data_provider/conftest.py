"""A small training directory, made to order."""

import logging

import cv2
import numpy as np
import pytest

from utils.utils_tool import logger

QUAD = '10,10,60,12,58,40,12,38,Word'


@pytest.fixture
def warnings(caplog):
    """The project's warnings, whatever another test has made of the logger."""
    logger.addHandler(caplog.handler)
    level, logger.propagate, propagate = logger.level, False, logger.propagate
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture
def make_folder(tmp_path):
    """make_folder(count, text=...) writes img_1.png .. with labels, and returns the directory."""
    def make(count, text=QUAD, size=(64, 96)):
        directory = tmp_path / 'data'
        directory.mkdir(exist_ok=True)
        for number in range(1, count + 1):
            pixels = np.random.RandomState(number).randint(0, 256, (*size, 3)).astype(np.uint8)
            cv2.imwrite(str(directory / f'img_{number}.png'), pixels)
            (directory / f'gt_img_{number}.txt').write_text(text, encoding='utf-8-sig')
        return directory
    return make
