"""The readers' samples equal those made in the straightforward order.

Crops and targets to the bit, pictures to two grey levels on average at every scale: an image that
is decoded to half its size, or enlarged and cut in one step, is rounded elsewhere.
"""

import cv2
import numpy as np
import pytest
import straightforward
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data_provider.augment import SCALES, plan_sample
from utils.data_provider.batching import BatchBuilder, BatchOptions
from utils.data_provider.datasets import Sample, load_dataset
from utils.data_provider.targets import generate_seg
from utils.geometry import validate_polygons

MAX_GREY_LEVELS = 2


def _random_polygons(rng, size):
    """Valid polygons of 3 to 12 points, some of them crossing themselves."""
    polygons = []
    for _ in range(rng.randint(8)):
        centre = rng.random_sample(2) * size[::-1]
        spread = rng.uniform(4, 60)
        polygons.append(centre + rng.uniform(-spread, spread, (rng.randint(3, 13), 2)))
    return validate_polygons(polygons, size)[0]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from([(300, 400), (201, 133)]))
def test_plans_and_targets_are_equal_to_the_bit(seed, size):
    rng = np.random.RandomState(seed)
    polygons = _random_polygons(rng, size)
    tags = rng.random_sample(len(polygons)) < 0.3
    plan = plan_sample(size, polygons, tags, 128, 0.1, np.random.RandomState(seed))
    expected = straightforward.make_plan(size, polygons, tags, 128, 0.1,
                                         np.random.RandomState(seed))
    assert (plan is None) == (expected is None)
    if plan is None:
        return
    assert (plan.scaled_size, plan.box) == expected[:2]
    assert len(plan.polygons) == len(expected[2])
    for polygon, other in zip(plan.polygons, expected[2]):
        assert polygon.dtype == other.dtype
        np.testing.assert_array_equal(polygon, other)
    np.testing.assert_array_equal(plan.ignore_tags, expected[3])
    maps, mask = generate_seg((128, 128), plan.polygons, plan.ignore_tags)
    maps_expected, mask_expected = straightforward.draw_targets(128, *expected[2:])
    np.testing.assert_array_equal(maps[::4, ::4], maps_expected)
    np.testing.assert_array_equal(mask[::4, ::4], mask_expected[..., 0])


def _grey_levels_off_by_scale(samples, options, numbers):
    """Mean differences of the pictures by scale; the rest of each sample is asserted on."""
    build, arrays = BatchBuilder(samples, options), options.layout.allocate()
    found = {scale: [] for scale in SCALES}
    for number in numbers:
        report = build(number, arrays)
        for position in range(options.batch_size):
            index, scaled_size, picture, seg_maps, mask = straightforward.make_sample(
                samples, options, number, position)
            assert report.indices[position] == index
            np.testing.assert_array_equal(arrays.seg_maps[position], seg_maps)
            np.testing.assert_array_equal(arrays.training_masks[position], mask)
            scale = min(SCALES, key=lambda each, size=scaled_size, index=index: abs(
                each - size[0] / samples[index].size[0]))
            found[scale].append(cv2.absdiff(arrays.images[position], picture).mean())
    return found


def _assert_alike(found):
    means = {scale: np.mean(values) for scale, values in found.items() if values}
    assert set(means) == set(SCALES), 'the numbers of batches must hold every scale'
    assert max(means.values()) <= MAX_GREY_LEVELS, means


@pytest.fixture
def drawn_samples(tmp_path):
    """Words and ramps as JPEG and PNG, with sides of odd and of even length."""
    samples = []
    for number, size in enumerate([(240, 320), (241, 321), (240, 321), (352, 288)]):
        image = np.add.outer(np.linspace(0, 120, size[0]), np.linspace(0, 120, size[1]))
        image = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_GRAY2BGR)
        for line in range(4):
            cv2.putText(image, f'Word {number}{line}', (20 + 30 * line, 50 + 50 * line),
                        cv2.FONT_HERSHEY_SIMPLEX, 1, (250, 40 * line, 60), 2, cv2.LINE_AA)
        path = str(tmp_path / f'{number}{".png" if number == 3 else ".jpg"}')
        cv2.imwrite(path, image)
        boxes = [[[20 + 30 * line, 25 + 50 * line], [150 + 30 * line, 25 + 50 * line],
                  [150 + 30 * line, 55 + 50 * line], [20 + 30 * line, 55 + 50 * line]]
                 for line in range(4)]
        samples.append(Sample(path, size, list(np.array(boxes, np.float32)),
                              np.array([False, True, False, False])))
    return samples


def test_drawn_images(drawn_samples):
    options = BatchOptions(input_size=128, batch_size=4, seed=2, min_crop_side_ratio=0.1)
    _assert_alike(_grey_levels_off_by_scale(drawn_samples, options, range(20)))


def test_a_rank_makes_its_part_of_the_straightforward_batch(drawn_samples):
    options = BatchOptions(input_size=64, batch_size=2, seed=2, min_crop_side_ratio=0.1, rank=1,
                           world_size=2)
    arrays = options.layout.allocate()
    report = BatchBuilder(drawn_samples, options)(7, arrays)
    for place, position in enumerate((2, 3)):
        index, _, _, seg_maps, _ = straightforward.make_sample(drawn_samples, options, 7, position)
        assert report.indices[place] == index
        np.testing.assert_array_equal(arrays.seg_maps[place], seg_maps)


def test_real_images(icdar_dir):
    samples, _ = load_dataset(str(icdar_dir / 'train'))
    options = BatchOptions(input_size=512, batch_size=14, seed=0, min_crop_side_ratio=0.1)
    _assert_alike(_grey_levels_off_by_scale(samples, options, range(9)))
