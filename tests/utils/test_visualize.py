"""Drawing: boxes are seen on every ground, inputs stay as they are, sheets keep their order."""

import numpy as np
import pytest

from utils.visualize import LINE_COLOUR, contact_sheet, draw_quads, text_line, tint

QUAD = np.array([[(10, 10), (50, 10), (50, 30), (10, 30)]], np.float32)


@pytest.mark.parametrize('ground', [0, 128, 255])
def test_lines_lie_where_the_box_is(ground):
    drawn = draw_quads(np.full((60, 80, 3), ground, np.uint8), QUAD)
    np.testing.assert_allclose(drawn[[10, 20], [30, 50]], [LINE_COLOUR] * 2, atol=30)
    assert (drawn[20, 30] == ground).all()
    assert (drawn[45:] == ground).all()


@pytest.mark.parametrize('ground', [LINE_COLOUR, (255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_a_box_is_seen_on_any_ground(ground):
    image = np.full((60, 80, 3), ground, np.uint8)
    change = np.abs(draw_quads(image, QUAD).astype(int) - image)
    assert change.max(axis=2)[8:13, 30].max() >= 100


def test_lines_grow_with_the_image():
    def thickness(side):
        image = np.full((side, side, 3), 128, np.uint8)
        drawn = draw_quads(image, np.array([[(0, 90), (200, 90), (200, 150), (0, 150)]]))
        return (drawn[60:120, 100] != 128).any(axis=1).sum()

    assert thickness(256) < thickness(1280) < thickness(2800)


def test_the_image_stays_unchanged():
    image = np.zeros((40, 60, 3), np.uint8)
    image.setflags(write=False)
    drawn = draw_quads(image, QUAD)
    assert drawn.any()
    assert not image.any()


@pytest.mark.parametrize('quads', [np.zeros((0, 4, 2), np.int32), [], QUAD + 1000, -QUAD * 1000])
def test_nothing_to_see_leaves_a_copy(quads):
    image = np.full((40, 60, 3), 7, np.uint8)
    drawn = draw_quads(image, quads)
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_reversed_channels_and_a_tiny_image_are_drawn_on():
    assert draw_quads(np.zeros((1, 1, 3), np.uint8)[:, :, ::-1], QUAD).shape == (1, 1, 3)


def test_a_sheet_shows_images_in_reading_order():
    images = [np.full((20, 40, 3), value, np.uint8) for value in (100, 150, 200)]
    sheet = contact_sheet(images, 2, (40, 30))
    assert sheet.shape == (60, 80, 3)
    assert [sheet[15, 20, 0], sheet[15, 60, 0], sheet[45, 20, 0]] == [100, 150, 200]
    assert sheet[2, 20, 0] == sheet[45, 60, 0] < 100


@pytest.mark.parametrize('shape', [(1, 500, 3), (500, 1, 3), (3, 3, 3)])
def test_images_of_any_shape_fit(shape):
    sheet = contact_sheet([np.full(shape, 255, np.uint8)], 1, (64, 48))
    assert sheet.shape == (48, 64, 3)
    assert (sheet == 255).any()


def test_a_tint_colours_its_part_and_darkens_the_rest():
    image = np.full((8, 8, 3), 255, np.uint8)
    mask = np.array([[1, 0], [0, 0]], np.uint8)
    tinted = tint(image, mask, (10, 20, 30))
    assert (tinted[:4, :4] == (10, 20, 30)).all()
    assert (tinted[4:] == 100).all()
    assert (tinted[:, 4:] == 100).all()
    assert (image == 255).all()


def test_a_line_of_text_has_its_size_however_long_it_is():
    for text in ('', 'image', '\u4e2d\u6587.jpg', 'long' * 100, 'no \udcd6 UTF-8'):
        line = text_line(text, (200, 24))
        assert line.shape == (24, 200, 3)
        assert (line.max() > 200) == bool(text)
