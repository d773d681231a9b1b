"""Crops cut no region, come from one random stream, and show what their polygons say."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data_provider.augment import (
    BACKGROUND_SHARE,
    SCALES,
    Augmentation,
    SamplePlan,
    draw_crop,
    half_is_enough,
    plan_sample,
    render_sample,
)
from utils.geometry import bounds

SIZE = (200, 300)
NO_TAGS = np.zeros(0, np.bool_)


def _rectangle(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


@st.composite
def scenes(draw):
    """An image's size, some polygons inside of it, and a seed."""
    height, width = draw(st.integers(8, 300)), draw(st.integers(8, 300))
    polygons = []
    for _ in range(draw(st.integers(0, 6))):
        left, top = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
        right = draw(st.floats(left + 1, width - 1)) if left < width - 2 else width - 1
        bottom = draw(st.floats(top + 1, height - 1)) if top < height - 2 else height - 1
        polygons.append(_rectangle(left, top, right, bottom))
    return (height, width), polygons, draw(st.integers(0, 2 ** 32 - 1))


@settings(max_examples=150, deadline=None)
@given(scenes(), st.booleans())
def test_no_region_is_cut(scene, background):
    size, polygons, seed = scene
    crop = draw_crop(size, bounds(polygons), background, 0.1, np.random.RandomState(seed))
    if crop is None:
        return
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= size[1]
    assert 0 <= top < bottom <= size[0]
    for index, polygon in enumerate(polygons):
        xs, ys = polygon.T
        if index in crop.kept:
            assert left <= xs.min()
            assert xs.max() < right
            assert top <= ys.min()
            assert ys.max() < bottom
        else:
            # Rounding may leave half a pixel of it on the last column or row.
            assert (xs.max() < left or xs.min() > right - 1
                    or ys.max() < top or ys.min() > bottom - 1)


@settings(max_examples=150, deadline=None)
@given(scenes(), st.booleans())
def test_borders_touch_no_region(scene, background):
    (height, width), polygons, seed = scene
    crop = draw_crop((height, width), bounds(polygons), background, 0.1,
                     np.random.RandomState(seed))
    if crop is None or crop.box == (0, 0, width, height):
        return
    left, top, right, bottom = crop.box
    # The border of the image itself is always allowed.
    columns = {left, right - 1} - {0, width - 1}
    rows = {top, bottom - 1} - {0, height - 1}
    for xs, ys in (np.rint(polygon).T for polygon in polygons):
        assert not any(xs.min() <= column <= xs.max() for column in columns)
        assert not any(ys.min() <= row <= ys.max() for row in rows)


@settings(max_examples=100, deadline=None)
@given(scenes(), st.sampled_from([0, 0.1, 0.5]))
def test_kinds_and_sizes(scene, ratio):
    (height, width), polygons, seed = scene
    boxes = bounds(polygons)
    text = draw_crop((height, width), boxes, False, ratio, np.random.RandomState(seed))
    assert (text is None) == (not polygons)
    background = draw_crop((height, width), boxes, True, ratio, np.random.RandomState(seed))
    for crop in filter(None, (text, background)):
        left, top, right, bottom = crop.box
        assert right - left >= ratio * width
        assert bottom - top >= ratio * height
    assert text is None or len(text.kept)
    assert background is None or not len(background.kept)


def test_an_image_full_of_text_is_taken_whole_or_not_at_all():
    boxes = bounds([_rectangle(0, 0, 299, 5), _rectangle(0, 0, 5, 199)])
    # The padding is allowed on both axes, yet every try is the whole image or a sliver.
    crop = draw_crop(SIZE, boxes, False, 0.1, np.random.RandomState(0))
    assert crop.box == (0, 0, 300, 200)
    assert crop.kept.tolist() == [0, 1]
    assert draw_crop(SIZE, boxes, True, 0.1, np.random.RandomState(0)) is None


def test_no_free_column_means_the_whole_image():
    boxes = bounds([_rectangle(0, 0, 8, 2)])
    crop = draw_crop((9, 9), boxes, False, 0.1, np.random.RandomState(0))
    assert crop.box == (0, 0, 9, 9)
    assert crop.kept.tolist() == [0]
    assert draw_crop((9, 9), boxes, True, 0.1, np.random.RandomState(0)) is None


def test_a_background_crop_is_the_first_try_of_sufficient_size():
    boxes = bounds([_rectangle(140, 90, 160, 110)])
    outcomes = [draw_crop(SIZE, boxes, True, 0.1, np.random.RandomState(seed))
                for seed in range(400)]
    # The two borders of an axis lie about the region in half of the tries: on both axes, a quarter;
    # somewhat more, as small tries are passed over. A try with the region is not replaced.
    share = sum(crop is None for crop in outcomes) / len(outcomes)
    assert 0.25 < share < 0.45


def test_the_same_stream_draws_the_same_plan():
    polygons = [_rectangle(20, 20, 80, 40), _rectangle(120, 90, 250, 130)]
    tags = np.array([False, True])
    for seed in range(20):
        one, other = (plan_sample(SIZE, polygons, tags, 64, 0.1, np.random.RandomState(seed))
                      for _ in range(2))
        assert repr(one) == repr(other)


def test_shares_of_scales_and_kinds():
    rng = np.random.RandomState(3)
    plans = [plan_sample(SIZE, [], NO_TAGS, 64, 0.1, rng) for _ in range(3000)]
    background = [plan for plan in plans if plan]
    # Without text, only background crops are to be had.
    assert len(background) / len(plans) == pytest.approx(BACKGROUND_SHARE, abs=0.03)
    scales = [plan.scaled_size[0] / SIZE[0] for plan in background]
    for scale in SCALES:
        assert scales.count(scale) / len(scales) == pytest.approx(1 / 6, abs=0.04)


@pytest.mark.parametrize('size', [(199, 301), (49, 1283), (720, 1280)])
def test_text_at_the_far_border_is_never_lost(size):
    polygon = _rectangle(size[1] * 0.7, size[0] * 0.6, size[1] - 1, size[0] - 1)
    rng = np.random.RandomState(0)
    for _ in range(200):
        plan = plan_sample(size, [polygon], np.zeros(1, np.bool_), 64, 0.1, rng)
        if plan is None:
            continue
        _, _, right, bottom = plan.box
        if (bottom, right) == plan.scaled_size:
            assert len(plan.polygons) == 1


def test_polygons_move_with_the_pixels():
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:100, 80:200] = 255
    polygon = _rectangle(80, 60, 200, 100)
    rng = np.random.RandomState(5)
    seen = 0
    for _ in range(40):
        plan = plan_sample(SIZE, [polygon], np.zeros(1, np.bool_), 256, 0.1, rng)
        if plan is None or not len(plan.polygons):
            continue
        picture = render_sample(image, plan, 256)
        assert picture.shape == (256, 256, 3)
        rows, columns = np.nonzero(picture[..., 0] > 127)
        corners = bounds(plan.polygons)[0]
        # Resizing goes by pixel areas and polygons by pixel positions: half a pixel of the crop.
        tolerance = 1 + 256 / min(plan.box[2] - plan.box[0], plan.box[3] - plan.box[1])
        np.testing.assert_allclose(
            corners, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
            atol=tolerance)
        seen += 1
    assert seen > 10


def test_rendering_resizes_crops_and_resizes():
    image = np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)
    plan = SamplePlan((40, 60), (10, 5, 42, 37), [], NO_TAGS)
    np.testing.assert_array_equal(render_sample(image, plan, 32), image[5:37, 10:42])
    halved = render_sample(np.repeat(np.repeat(image, 2, 0), 2, 1), plan, 32)
    np.testing.assert_array_equal(halved, image[5:37, 10:42])


@pytest.mark.parametrize('size, scaled_size, enough', [
    ((720, 1280), (360, 640), True), ((720, 1280), (90, 160), True),
    ((720, 1280), (720, 1280), False), ((720, 1280), (1440, 2560), False),
    ((721, 1280), (360, 640), False), ((720, 1281), (90, 160), False),
    # Sides are rounded up as well, to beyond the half.
    ((6, 1280), (4, 640), False),
])
def test_half_an_image_is_enough_where_no_more_is_left_of_it(size, scaled_size, enough):
    plan = SamplePlan(scaled_size, (0, 0, *scaled_size[::-1]), [], NO_TAGS)
    assert half_is_enough(size, plan) == enough


def test_inputs_are_left_as_they_are():
    polygon = _rectangle(20, 20, 80, 40)
    before = polygon.copy()
    rng = np.random.RandomState(1)
    for _ in range(10):
        plan_sample(SIZE, [polygon], np.zeros(1, np.bool_), 64, 0.1, rng)
    np.testing.assert_array_equal(polygon, before)


SCALED = Augmentation('scaled', (0.7, 2.3), flip=True, max_rotation=10, colour_jitter=True)
WORD = np.float32([[100, 80], [160, 80], [160, 100], [100, 100]])


def scaled_plans(count, augmentation=SCALED, size=(200, 300), side=128):
    return [plan_sample(size, [WORD], np.zeros(1, bool), side, 0.1, np.random.RandomState(seed),
                        augmentation) for seed in range(count)]


def test_scaled_crops_keep_the_aspect_within_a_tenth_and_the_scale_in_its_range():
    scales, mirrored = [], 0
    for plan in scaled_plans(300):
        linear = plan.matrix[:, :2]
        sides = np.linalg.norm(linear, axis=0)
        assert 0.9 - 1e-9 <= sides[0] / sides[1] <= 1.1 + 1e-9
        assert abs(np.degrees(np.arctan2(-linear[0, 1], linear[1, 1]))) <= 10
        scales.append(sides[1])
        mirrored += np.linalg.det(linear) < 0
    assert 0.7 <= min(scales) < 0.8
    assert 2.1 < max(scales) <= 2.3
    # Log-uniform: as many reduce by a factor as enlarge by it, around the middle of the range.
    assert 0.4 < np.mean(np.array(scales) < np.sqrt(0.7 * 2.3)) < 0.6
    assert 100 < mirrored < 200


def test_nine_of_ten_scaled_crops_show_the_word_and_polygons_follow_the_pixels():
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:101, 100:161] = 255
    plans = scaled_plans(200, SCALED._replace(colour_jitter=False))
    assert 170 < sum(bool(plan.polygons) for plan in plans) <= 200
    checked = 0
    for plan in plans:
        if not plan.polygons or not ((plan.polygons[0] > 3) & (plan.polygons[0] < 124)).all():
            continue
        picture = render_sample(image, plan, 128)
        drawn = cv2.fillPoly(np.zeros((128, 128), np.uint8),
                             [np.rint(plan.polygons[0]).astype(np.int32)], 1).astype(bool)
        ink = (picture == 255).all(axis=2)
        assert (ink & drawn).sum() / (ink | drawn).sum() > 0.85
        checked += 1
    assert checked > 40


def test_what_lies_beyond_the_image_is_the_mean_colour():
    plan = scaled_plans(1, SCALED._replace(colour_jitter=False), (40, 40), 128)[0]
    picture = render_sample(np.zeros((40, 40, 3), np.uint8), plan, 128)
    assert picture[0, 0].tolist() == [104, 117, 124]


def test_colours_vary_within_their_ranges_and_leave_the_image_alone():
    image = np.random.RandomState(0).randint(60, 190, (128, 128, 3)).astype(np.uint8)
    image.setflags(write=False)
    plans = [plan for plan in scaled_plans(20, Augmentation(colour_jitter=True)) if plan]
    assert len({plan.colours for plan in plans}) == len(plans)
    for plan in plans:
        assert plan.matrix is None
        assert abs(plan.colours.brightness) <= 0.125 * 255
        shown = plan._replace(matrix=np.eye(2, 3))
        plain = render_sample(image, shown._replace(colours=None), 128)
        np.testing.assert_array_equal(plain, image)
        change = render_sample(image, shown, 128).mean() - plain.mean()
        assert change == pytest.approx(plan.colours.brightness, abs=3)


def test_without_augmentation_draws_are_those_of_the_reference():
    for seed in range(5):
        plain, given = (plan_sample((200, 300), [WORD], np.zeros(1, bool), 64, 0.1,
                                    np.random.RandomState(seed), *options)
                        for options in ((), (Augmentation(),)))
        assert (plain is None) == (given is None)
        if plain:
            assert plain.box == given.box
            assert plain.matrix is plain.colours is None
