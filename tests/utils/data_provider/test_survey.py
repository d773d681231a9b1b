"""The survey: kernels measured alone are those of training's maps, and the shares add up."""

import numpy as np
import pytest

from utils.data_provider.datasets import Sample, load_dataset
from utils.data_provider.survey import DRAWS, Survey, kernel_areas
from utils.data_provider.targets import generate_seg

SIDE = 128


def _rectangle(left, top, width, height):
    return np.array([[left, top], [left + width, top], [left + width, top + height],
                     [left, top + height]], np.float32)


def _sample(polygons, ignore_tags=None, size=(64, 96)):
    tags = np.zeros(len(polygons), np.bool_) if ignore_tags is None else np.array(ignore_tags)
    return Sample('img.png', size, polygons, tags)


@pytest.mark.parametrize('seed', range(20))
def test_areas_equal_those_on_the_whole_map(seed):
    rng = np.random.RandomState(seed)
    for _ in range(20):
        centre, radius = rng.uniform(0, SIDE, 2), rng.uniform(2, 60)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.randint(4, 9)))
        points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        polygon = np.clip(points, 0, SIDE - 0.01).astype(np.float32)
        maps, _ = generate_seg((SIDE, SIDE), [polygon], [False])
        np.testing.assert_array_equal(kernel_areas(polygon, SIDE),
                                      maps[::4, ::4].sum(axis=(0, 1), dtype=int))


def test_area_of_a_square():
    # Shrunk to 0.5 by 40 * 40 * 0.75 / 160 = 7.5: 16 .. 40 of 8 .. 48 is left, rounded outwards.
    areas = kernel_areas(_rectangle(8, 8, 40, 40), SIDE)
    assert areas[0] in (6 ** 2, 7 ** 2)
    assert areas[5] == 11 ** 2


def test_a_region_at_the_far_corner_stays_on_the_map():
    assert kernel_areas(_rectangle(SIDE - 8, SIDE - 8, 8, 8), SIDE)[5] == 4
    assert not kernel_areas(_rectangle(SIDE - 1, SIDE - 1, 1, 1), SIDE).any()


def test_shares_of_whole_images():
    survey = Survey([96], 0.1, min_area=6)
    survey.add(_sample([_rectangle(5, 5, 60, 30), _rectangle(5, 50, 4, 3)]))
    np.testing.assert_array_equal(survey.survivals[0].shares()[0], [0.5] * 6)


def test_a_larger_input_keeps_more():
    survey = Survey([32, 64, 256], 0.1, min_area=6)
    survey.add(_sample([_rectangle(5, 5, 12, 10)]))
    kept = [survival.whole.sum() for survival in survey.survivals]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] == 6


def test_crops_show_regions_larger_than_whole_images_do():
    survey = Survey([64], 0.1, min_area=6)
    for _ in range(30):
        survey.add(_sample([_rectangle(20, 20, 14, 9)]))
    survival, = survey.survivals
    assert 0 < survival.crop_regions <= 30 * DRAWS
    assert survival.crops[0] > 0 == survival.whole[0]


def test_what_is_not_to_be_learnt_is_not_counted():
    survey = Survey([64], 0.1, min_area=1)
    survey.add(_sample([_rectangle(5, 5, 20, 10), _rectangle(40, 40, 9, 7)], [True, False]))
    survey.add(_sample([]))
    assert survey.regions == [1, 0]
    assert survey.sizes == [(64, 96)] * 2
    np.testing.assert_allclose(survey.ignored_sides, [10], atol=0.01)
    np.testing.assert_allclose(survey.learnt_sides, [7], atol=0.01)
    assert survey.survivals[0].whole_regions == 1


def test_without_regions_shares_are_unknown():
    survey = Survey([64], 0.1, min_area=1)
    survey.add(_sample([]))
    assert np.isnan(survey.survivals[0].shares()).all()


def test_same_folder_same_survey(make_folder):
    samples = load_dataset(str(make_folder(5)))[0]
    surveys = [Survey([64], 0.1, min_area=6) for _ in range(2)]
    for survey in surveys:
        for sample in samples:
            survey.add(sample)
    np.testing.assert_array_equal(surveys[0].survivals[0].shares(),
                                  surveys[1].survivals[0].shares())
