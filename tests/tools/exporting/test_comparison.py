"""How models are held against the checkpoint."""

import numpy as np
import pytest

from tools.exporting.comparison import Outputs, compare, inputs_at_two_sizes, outputs_of, sizes_of


def answers(*values, milliseconds=(1, 1)):
    return Outputs([np.full((2, 2, 6), value, np.float32) for value in values], list(milliseconds))


def test_every_image_comes_at_two_sizes_that_the_network_takes():
    images = [np.zeros((100, 200, 3), np.uint8), np.zeros((300, 120, 3), np.uint8)]
    inputs = inputs_at_two_sizes(images, max_side_len=240)
    assert [image.shape for image in inputs] == [
        (128, 224, 3), (256, 96, 3), (64, 128, 3), (128, 64, 3)]
    assert sizes_of(inputs) == ['224x128', '96x256', '128x64', '64x128']
    assert sizes_of(inputs[:1] * 2) == ['224x128']


def test_a_network_is_run_on_each():
    class Mean:
        def score_maps(self, image_rgb):
            return image_rgb.mean()
    found = outputs_of(Mean(), [np.full((4, 4, 3), value) for value in (1, 2)], 'mean')
    assert found.score_maps == [1, 2]
    assert all(time > 0 for time in found.milliseconds)


def test_the_largest_difference_counts_and_the_time_of_the_large_images():
    difference = compare(answers(0.5, 0.75, milliseconds=(8, 3)),
                         answers(0.25, 0.75, milliseconds=(9, 4)))
    assert difference == (0.25, 8, 9)


@pytest.mark.parametrize('broken', [np.full((2, 2, 6), np.nan), np.zeros((2, 3, 6))])
def test_what_is_no_score_map_is_as_far_as_can_be(broken):
    expected = answers(0, 0)
    assert compare(Outputs([expected.score_maps[0], broken], [1, 1]), expected).maximum == np.inf
