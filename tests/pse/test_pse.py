"""The expansion: exact small maps, a slow oracle, the reference's fixture, and what is refused."""

import concurrent.futures

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

import pse as package
from pse import pse, pse_from_scores, row_extents
from tests.pse.oracle import expand


def kernels_of(*drawings):
    """uint8 (K, H, W) from drawings, largest kernel first; '#' belongs to the kernel."""
    return np.array([[[c == '#' for c in row] for row in drawing.split()] for drawing in drawings],
                    np.uint8)


def map_of(drawing):
    """int32 (H, W) from digits; '.' is 0."""
    return np.array([[0 if c == '.' else int(c) for c in row] for row in drawing.split()], np.int32)


def same_partition(one, other):
    """Whether two label maps differ in nothing but the labels' numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return (len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
            and np.array_equal(pairs[0] == 0, pairs[1] == 0))


def reference_cases(data_dir):
    """Yields (kernels uint8 (6, H, W) largest first, min_area, labels) of the fixture."""
    data = np.load(str(data_dir / 'reference_pse.npz'))
    shape = tuple(data['shape'])
    kernels = np.unpackbits(data['kernels'])[:np.prod(shape)].reshape(shape)
    yield from zip(kernels, data['min_area'].tolist(), data['labels'])


def assert_labels(kernels, min_area, drawing):
    labels, values = pse(kernels, min_area)
    expected = map_of(drawing)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(values, np.arange(1, expected.max() + 1))


def test_equals_the_reference_pixel_for_pixel(data_dir):
    for kernels, min_area, expected in reference_cases(data_dir):
        labels, values = pse(kernels, min_area)
        assert same_partition(labels, expected)
        assert len(values) == len(np.unique(expected[expected > 0]))


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
       st.integers(0, 6))
def test_seeds_are_the_components_of_the_smallest_kernel(kernel, min_area):
    labels, values = pse(kernel[np.newaxis], min_area)
    components, count = ndimage.label(kernel)
    areas = ndimage.sum(kernel, components, np.arange(1, count + 1))
    kept = np.isin(components, 1 + np.flatnonzero(areas >= min_area))
    assert same_partition(labels, np.where(kept, components, 0))
    assert len(values) == np.sum(areas >= min_area)


def test_scores_give_the_same_labels_as_their_kernels(data_dir):
    for kernels, min_area, _ in reference_cases(data_dir):
        scores = kernels[::-1].transpose(1, 2, 0).astype(np.float32)
        labels, values = pse_from_scores(scores, 0.5, min_area)
        expected_labels, expected_values = pse(kernels, min_area)
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_array_equal(values, expected_values)


def test_both_ways_of_import_name_the_same_function():
    assert package.pse is pse


def test_types_and_shapes_of_the_result():
    labels, values = pse(np.ones((2, 3, 4), np.uint8), 0)
    assert labels.dtype == np.int32
    assert labels.shape == (3, 4)
    assert values.dtype == np.int32
    assert values.tolist() == [1]


def test_one_kernel_gives_its_connected_components():
    assert_labels(kernels_of("""
        ##..#
        ...##
        #.#.."""), 0, """
        11..2
        ...22
        3.4..""")


def test_seeds_are_4_connected():
    assert_labels(kernels_of('#. .#'), 1, '1. .2')


def test_arms_that_meet_below_are_one_seed():
    assert_labels(kernels_of("""
        #.#.#
        #.###
        ###.."""), 1, """
        1.1.1
        1.111
        111..""")


@pytest.mark.parametrize(('min_area', 'drawing'), [
    (0, '11.2'), (1, '11.2'), (2, '11..'), (3, '....'), (10 ** 30, '....')])
def test_small_seeds_are_dropped(min_area, drawing):
    assert_labels(kernels_of('##.#'), min_area, drawing)


def test_a_dropped_seed_is_taken_by_its_neighbour():
    assert_labels(kernels_of('######', '##...#'), 2, '111111')


def test_a_larger_kernel_without_a_seed_stays_background():
    assert_labels(kernels_of('##.##', '.#...'), 1, '11...')


def test_touching_texts_stay_apart():
    assert_labels(kernels_of("""
        #######
        #######""", """
        #.....#
        #.....#"""), 1, """
        1111222
        1111222""")


def test_a_tie_goes_to_the_seed_that_comes_first_in_row_major_order():
    assert_labels(kernels_of('###', '#.#'), 1, '112')
    assert_labels(kernels_of('# # #', '# . #'), 1, '1 1 2')
    assert_labels(kernels_of("""
        .#
        ##""", """
        .#
        #."""), 1, """
        .1
        21""")


def test_a_seed_pixel_grows_right_before_a_later_pixel_grows_up():
    assert_labels(kernels_of("""
        ##
        .#""", """
        #.
        .#"""), 1, """
        11
        .2""")


def test_a_pixel_that_grew_does_not_grow_again_in_the_next_kernel():
    # The seed grows to the right first; in the largest kernel only its new pixel is in the queue,
    # and that does not reach the pixel below the seed.
    assert_labels(kernels_of("""
        ##.
        #..""", """
        ##.
        ...""", """
        #..
        ..."""), 1, """
        11.
        ...""")


def test_a_pixel_that_grew_nothing_waits_for_the_next_kernel():
    assert_labels(kernels_of('##', '#.', '#.'), 1, '11')


def test_kernels_need_not_be_nested():
    assert_labels(kernels_of('.##', '##.', '#..'), 1, '111')
    assert_labels(kernels_of('..#', '##.', '#..'), 1, '111')


@pytest.mark.parametrize('shape', [(1, 0, 0), (6, 0, 5), (6, 5, 0)])
def test_empty_maps(shape):
    labels, values = pse(np.zeros(shape, np.uint8), 3)
    assert labels.shape == shape[1:]
    assert values.shape == (0,)


def test_a_map_without_text():
    labels, values = pse(np.zeros((6, 5, 7), bool), 0)
    assert not labels.any()
    assert not len(values)


def test_any_value_but_0_belongs_to_a_kernel():
    assert_labels(np.array([[[255, 2, 128, 0, 1]]], np.uint8), 0, '111.2')


def test_bool_fortran_strided_and_reversed_inputs_give_the_same_labels(data_dir):
    kernels, min_area, _ = next(reference_cases(data_dir))
    expected, _ = pse(kernels, min_area)
    strided = np.zeros((12,) + kernels.shape[1:][::-1], np.uint8).transpose(0, 2, 1)
    strided[::2] = kernels
    for same in (kernels.astype(bool), np.asfortranarray(kernels), strided[::2],
                 np.ascontiguousarray(kernels[::-1])[::-1], kernels * 3):
        np.testing.assert_array_equal(pse(same, min_area)[0], expected)


def test_inputs_stay_unchanged():
    kernels = kernels_of('####', '#..#')
    kernels.setflags(write=False)
    before = kernels.copy()
    pse(kernels, 1)
    np.testing.assert_array_equal(kernels, before)


def test_threads_may_expand_at_the_same_time(data_dir):
    cases = [case[:2] for case in reference_cases(data_dir)] * 4
    expected = [pse(*case)[0] for case in cases]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for (labels, _), one in zip(pool.map(lambda case: pse(*case), cases), expected):
            np.testing.assert_array_equal(labels, one)


MAPS = st.tuples(st.integers(1, 17), st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))


@settings(max_examples=300, deadline=None)
@given(MAPS, st.integers(0, 5), st.booleans())
def test_equals_the_oracle_on_random_maps(kernels, min_area, nested):
    if nested:
        kernels = np.maximum.accumulate(kernels[::-1])[::-1]
    labels, values = pse(kernels, min_area)
    expected = expand(kernels, min_area)
    np.testing.assert_array_equal(labels, expected)
    assert values.tolist() == list(range(1, expected.max() + 1))


@pytest.mark.parametrize('num_kernels', [1, 6, 7, 8, 15])
def test_equals_the_oracle_on_grown_blobs(num_kernels):
    rng = np.random.RandomState(num_kernels)
    field = rng.rand(40, 50)
    kernels = np.array([field < 0.9 - 0.06 * i for i in range(num_kernels)])
    np.testing.assert_array_equal(pse(kernels, 2)[0], expand(kernels, 2))


@pytest.mark.parametrize(('kernels', 'words'), [
    (np.zeros((6, 4, 4), np.int32), 'int32'),
    (np.zeros((6, 4, 4), np.float32), 'float32'),
    ([[[0, 1]]], 'int64'),
    (None, 'object'),
    (np.zeros((4, 4), np.uint8), r'\(4, 4\)'),
    (np.zeros((1, 6, 4, 4), np.uint8), r'\(1, 6, 4, 4\)'),
    (np.zeros((0, 4, 4), np.uint8), 'K >= 1'),
])
def test_wrong_kernels_are_refused(kernels, words):
    with pytest.raises(ValueError, match=words):
        pse(kernels, 1)


@pytest.mark.parametrize('min_area', [-1, 1.0, 2.5, '3', None, np.float32(1), np.ones(2)])
def test_wrong_areas_are_refused(min_area):
    with pytest.raises(ValueError, match='min_area'):
        pse(np.zeros((1, 2, 2), np.uint8), min_area)


@pytest.mark.parametrize('area', [np.int16(2), np.array(2)])
def test_numpy_integers_are_areas(area):
    assert_labels(kernels_of('##.#'), area, '11..')


@pytest.mark.parametrize(('score_maps', 'words'), [
    (np.zeros((4, 4, 6)), 'float64'),
    (np.zeros((4, 4), np.float32), r'\(4, 4\)'),
    (np.zeros((4, 4, 0), np.float32), 'K >= 1'),
])
def test_wrong_score_maps_are_refused(score_maps, words):
    with pytest.raises(ValueError, match=words):
        pse_from_scores(score_maps, 0.9, 6)


def test_a_score_must_be_above_the_threshold():
    scores = np.array([[[0.9], [0.8999], [np.nextafter(np.float32(0.9), np.float32(1))]]],
                      np.float32)
    assert pse_from_scores(scores, 0.9, 0)[0].tolist() == [[0, 0, 1]]


def test_not_a_number_belongs_to_no_kernel():
    assert not pse_from_scores(np.full((2, 2, 6), np.nan, np.float32), 0.5, 0)[0].any()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(1, 50), st.integers(1, 15), st.sampled_from([.02, .2, .6]),
       st.integers(0, 2 ** 32 - 1))
def test_scores_of_wide_maps_equal_the_oracle(height, width, num_kernels, density, seed):
    scores = np.random.RandomState(seed).rand(height, width, num_kernels).astype(np.float32)
    threshold = 1 - density
    kernels = (scores > np.float32(threshold)).transpose(2, 0, 1)[::-1]
    np.testing.assert_array_equal(pse_from_scores(scores, threshold, 1)[0], expand(kernels, 1))


def test_many_score_channels_equal_their_kernels():
    scores = np.random.RandomState(0).rand(20, 30, 17).astype(np.float32)
    kernels = (scores > np.float32(0.6)).transpose(2, 0, 1)[::-1]
    np.testing.assert_array_equal(pse_from_scores(scores, 0.6, 1)[0], pse(kernels, 1)[0])


def test_row_extents_of_a_small_map():
    assert row_extents(map_of("""
        2.2.1
        .11..
        3...3"""), 3).tolist() == [[1, 0, 4, 4], [1, 1, 1, 2], [2, 0, 0, 2], [3, 2, 0, 4]]


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
                  elements=st.integers(0, 4)))
def test_row_extents_equal_a_search_per_label(labels):
    expected = [[label, row, columns.min(), columns.max()]
                for label in range(1, 5) for row, line in enumerate(labels)
                for columns in [np.flatnonzero(line == label)] if len(columns)]
    assert row_extents(labels, 4).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 50), st.integers(0, 2 ** 32 - 1))
def test_row_extents_of_wide_maps_with_little_in_them(height, width, seed):
    random_state = np.random.RandomState(seed)
    labels = random_state.randint(1, 4, (height, width)) * (random_state.rand(height, width) < 0.1)
    expected = [[label, row, columns.min(), columns.max()]
                for label in range(1, 4) for row, line in enumerate(labels)
                for columns in [np.flatnonzero(line == label)] if len(columns)]
    assert row_extents(labels.astype(np.int32), 3).tolist() == expected


def test_row_extents_without_labels():
    assert row_extents(np.zeros((3, 4), np.int32), 0).shape == (0, 4)
    assert row_extents(np.zeros((0, 4), np.int32), 0).shape == (0, 4)


@pytest.mark.parametrize('labels', [np.zeros((2, 2)), np.zeros((1, 2, 2), np.int32),
                                    np.full((2, 2), 3, np.int32), np.full((2, 2), -1, np.int32)])
def test_row_extents_refuses_wrong_labels(labels):
    with pytest.raises(ValueError, match='labels'):
        row_extents(labels, 2)


def test_row_extents_refuses_a_negative_number_of_labels():
    with pytest.raises(ValueError, match='must not be negative'):
        row_extents(np.zeros((2, 2), np.int32), -1)
