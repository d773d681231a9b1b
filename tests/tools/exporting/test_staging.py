"""Models in their place: what they replace, and what they leave alone."""

import os

import pytest
import tensorflow as tf

from tools.exporting.exporter import (
    check_replaceable,
    disk_errors_named,
    put_in_place,
    working_folder,
)
from utils.errors import PSENetError


def saved_model(directory, content):
    """A directory that looks like a SavedModel."""
    directory.mkdir()
    (directory / 'saved_model.pb').write_text(content)
    return str(directory)


def test_the_working_folder_goes_whatever_happens(tmp_path):
    output = tmp_path / 'a' / 'b'

    def work():
        with working_folder(str(output)) as directory:
            assert os.path.dirname(directory) == str(output)
            with open(os.path.join(directory, 'half'), 'w') as file:
                file.write('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert os.listdir(str(output)) == []


def test_what_a_killed_export_left_goes_and_what_another_works_in_stays(tmp_path):
    (tmp_path / '.export-killed').mkdir()
    (tmp_path / '.export-killed' / 'half').write_text('half')
    with working_folder(str(tmp_path)) as ours, working_folder(str(tmp_path)) as other:
        names = {os.path.basename(path) for path in (ours, other)}
        assert set(os.listdir(str(tmp_path))) == names
        assert len(names) == 2
    assert os.listdir(str(tmp_path)) == []


def test_an_output_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(PSENetError, match=r'--output_dir=.*file'), \
            working_folder(str(tmp_path / 'file')):
        pass


@pytest.mark.parametrize('earlier', [True, False])
def test_a_file_takes_its_place(tmp_path, earlier):
    new, place = tmp_path / 'new', tmp_path / 'psenet.pb'
    new.write_text('new')
    if earlier:
        place.write_text('old')
    check_replaceable(str(place), is_folder=False)
    put_in_place(str(new), str(place))
    assert place.read_text() == 'new'
    assert not new.exists()


@pytest.mark.parametrize('earlier', [True, False])
def test_a_folder_takes_its_place(tmp_path, earlier):
    (tmp_path / 'work').mkdir()
    new, place = saved_model(tmp_path / 'work' / 'new', 'new'), tmp_path / 'saved_model'
    if earlier:
        saved_model(place, 'old')
    check_replaceable(str(place), is_folder=True)
    put_in_place(new, str(place))
    assert (place / 'saved_model.pb').read_text() == 'new'
    assert sorted(os.listdir(str(tmp_path))) == ['saved_model', 'work']


def test_the_earlier_folder_stays_where_the_new_one_cannot_come(tmp_path):
    place = tmp_path / 'saved_model'
    saved_model(place, 'old')
    with pytest.raises(PSENetError, match=r'cannot write .*saved_model: No such file'):
        put_in_place(str(tmp_path / 'missing'), str(place))
    assert (place / 'saved_model.pb').read_text() == 'old'


@pytest.mark.parametrize('is_folder', [True, False])
def test_a_folder_of_something_else_is_refused(tmp_path, is_folder):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(PSENetError, match='exists and is not an exported model; move it away'):
        check_replaceable(str(tmp_path), is_folder)


@pytest.mark.parametrize('error', [
    OSError(28, 'No space left on device'),
    tf.errors.ResourceExhaustedError(None, None, '/out/.work/a.pb; No space left on device')])
def test_a_full_disk_is_one_sentence(error):
    with pytest.raises(PSENetError, match=r'^cannot write a\.pb: No space left on device$'), \
            disk_errors_named('a.pb'):
        raise error


def test_a_name_that_tensorflow_cannot_write_is_one_sentence():
    with pytest.raises(PSENetError, match=r'cannot write saved_model: .* not allowed'), \
            disk_errors_named('saved_model'):
        '\udcff'.encode()
