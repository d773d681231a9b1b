"""Events as TensorBoard reads them."""

import os

import cv2
import numpy as np
import pytest
import tensorflow as tf

from training.run_folder import EVENTS_SUFFIX
from training.summaries import SummaryWriter, map_image


@pytest.fixture
def written(tmp_path):
    """written(what, first_step=0) -> the events of a run that does ``what(writer)``."""
    def write(what, first_step=0):
        writer = SummaryWriter(str(tmp_path), first_step)
        what(writer)
        writer.close()
        return events_in(tmp_path)
    return write


def events_in(directory):
    """All events in a directory but each file's version mark."""
    events = []
    for name in sorted(os.listdir(str(directory))):
        events += tf.compat.v1.train.summary_iterator(str(directory / name))
    return [event for event in events if not event.file_version]


def values_of(events):
    """[(step, tag, value message)]."""
    return [(event.step, value.tag, value) for event in events for value in event.summary.value]


def test_event_files_carry_our_mark(written, tmp_path):
    written(lambda writer: None)
    name, = os.listdir(str(tmp_path))
    assert name.startswith('events.out.tfevents.')
    assert name.endswith(EVENTS_SUFFIX)


def test_a_run_that_follows_within_a_second_has_a_file_of_its_own(tmp_path):
    for step in (0, 5):
        SummaryWriter(str(tmp_path), step).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_scalars_arrive_with_step_and_name(written):
    events = written(lambda writer: writer.add_scalars(
        100, {'learning_rate': 0.5, 'total_loss': np.float32(0.25)}))
    assert [(step, tag, value.simple_value) for step, tag, value in values_of(events)] == [
        (100, 'learning_rate', 0.5), (100, 'total_loss', 0.25)]


def test_events_can_be_read_while_the_run_goes_on(tmp_path):
    writer = SummaryWriter(str(tmp_path), 0)
    writer.add_scalars(1, {'loss': 1.0})
    assert [tag for _, tag, _ in values_of(events_in(tmp_path))] == ['loss']
    writer.close()


def test_a_colour_picture_keeps_its_colours(written):
    picture = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    (step, tag, value), = values_of(written(
        lambda writer: writer.add_images(3, {'input_image': picture})))
    assert (step, tag) == (3, 'input_image')
    assert (value.image.height, value.image.width, value.image.colorspace) == (5, 7, 3)
    decoded = cv2.imdecode(np.frombuffer(value.image.encoded_image_string, np.uint8),
                           cv2.IMREAD_UNCHANGED)
    assert decoded[:, :, ::-1].tolist() == picture.tolist()


def test_a_grey_picture_keeps_its_values(written):
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (_, _, value), = values_of(written(lambda writer: writer.add_images(3, {'map': picture})))
    assert (value.image.height, value.image.width, value.image.colorspace) == (3, 4, 1)
    decoded = cv2.imdecode(np.frombuffer(value.image.encoded_image_string, np.uint8),
                           cv2.IMREAD_UNCHANGED)
    assert decoded.tolist() == picture.tolist()


@pytest.mark.parametrize('first_step', [0, 1000])
def test_a_start_voids_what_an_earlier_process_wrote_beyond_it(written, first_step):
    event = written(lambda writer: None, first_step)[0]
    assert event.session_log.status == tf.SessionLog.START
    assert event.step == first_step + 1


@pytest.mark.parametrize('channels, grey', [
    ([0, 0, 0, 0, 0, 0], 0), ([1, 1, 1, 1, 1, 1], 255), ([0, 0, 0, 1, 1, 1], 127), ([1.5], 255),
    ([-1], 0),
])
def test_map_image_shows_the_mean_of_the_kernels(channels, grey):
    seg_map = np.broadcast_to(np.float32(channels), (2, 3, len(channels)))
    picture = map_image(seg_map)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[grey] * 3] * 2
