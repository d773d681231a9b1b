"""A training directory that changes while batches are built: named, counted, and survived."""

import contextlib
import itertools
import os
import re

import numpy as np
import pytest

from utils.data_provider.data_provider import get_batch
from utils.errors import PSENetError

SMALL = {'num_workers': 2, 'input_size': 32, 'batch_size': 2, 'seed': 3}


def _files_of(batches):
    return [[os.path.basename(path) for path in batch[1]] for batch in batches]


def test_images_that_vanish_or_are_cut_off_are_left_out_from_then_on(make_folder, warnings):
    directory = make_folder(8)
    with get_batch(str(directory), **SMALL) as batches:
        next(batches)
        (directory / 'img_2.png').unlink()
        os.truncate(str(directory / 'img_5.png'), 60)
        # Until both have been met with: each epoch wants every image.
        later = _files_of(itertools.islice(batches, 40))[8:]
        assert (batches.counts.unreadable, batches.counts.usable_images) == (2, 6)
    assert not {'img_2.png', 'img_5.png'} & {name for names in later for name in names}
    named = [record.getMessage() for record in warnings.records if 'skipped' in record.msg]
    assert sorted(re.search(r'img_\d', text).group() for text in named) == ['img_2', 'img_5']


def test_labels_that_change_count_from_the_next_start_on(make_folder, warnings):
    directory = make_folder(4)
    with get_batch(str(directory), **SMALL) as batches:
        expected = list(itertools.islice(batches, 8))
    with get_batch(str(directory), **SMALL) as batches:
        for path in directory.glob('*.txt'):
            path.write_text('1,2,3\n')
        taken = list(itertools.islice(batches, 8))
        assert batches.counts.unreadable == 0
    assert _files_of(taken) == _files_of(expected)
    for one, other in zip(taken, expected):
        np.testing.assert_array_equal(one[2], other[2])
    with pytest.raises(PSENetError, match=r'4 unreadable, 0 usable images'):
        get_batch(str(directory), **SMALL)
    assert 'gt_img_1.txt:1' in warnings.text


@pytest.fixture
def batches_of_twelve(make_folder):
    """batches_of_twelve(n): a run over 12 images of which n vanish after the first batch."""
    with contextlib.ExitStack() as stack:
        def start(vanishing):
            directory = make_folder(12)
            batches = stack.enter_context(get_batch(str(directory), **SMALL))
            next(batches)
            for number in range(1, 1 + vanishing):
                (directory / f'img_{number}.png').unlink()
            return batches
        yield start


def test_more_than_half_of_the_draws_failing_stops_the_run_with_the_counts(batches_of_twelve):
    with pytest.raises(PSENetError, match=r'\d+ of the last \d+ images drawn can no longer be '
                                          r'read: .*\(12 images, .*, 9 unreadable, 3 usable'):
        list(itertools.islice(batches_of_twelve(9), 400))


def test_less_than_half_of_them_does_not(batches_of_twelve):
    batches = batches_of_twelve(4)
    assert len(list(itertools.islice(batches, 150))) == 150
    assert batches.counts.unreadable == 4
