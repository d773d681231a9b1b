"""Every path that a person may give for a checkpoint, and what is said of those that are none."""

import os

import pytest

from tests.training.conftest import write_checkpoint
from training.checkpoints import indexed_name, resolve_checkpoint
from training.run_folder import CheckpointError, files_of, find_checkpoints, fingerprint, step_of

DATA = '.data-00000-of-00001'
VALUES = {'weight': [1.0, 2.0]}


def touch(directory, *names):
    """Makes empty files; all that finding looks at is names."""
    for name in names:
        (directory / name).write_bytes(b'')


def touch_checkpoint(directory, *names):
    """Makes the files of checkpoints, empty."""
    for name in names:
        touch(directory, name + '.index', name + DATA)


def write_index(directory, path):
    """Writes an index file that names a checkpoint."""
    (directory / 'checkpoint').write_text(f'model_checkpoint_path: "{path}"\n')


def resolved(path):
    """The name of the checkpoint that a path means."""
    return os.path.basename(resolve_checkpoint(str(path)))


def test_folder_with_an_index_gives_what_it_names(tmp_path):
    touch_checkpoint(tmp_path, 'model.ckpt-900', 'model.ckpt-1000')
    write_index(tmp_path, 'model.ckpt-900')
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-900')


@pytest.mark.parametrize('foreign', ['/home/somebody/resnet_train/model.ckpt-900',
                                     r'C:\\train\\model.ckpt-900', '../elsewhere/model.ckpt-900'])
def test_index_with_a_foreign_path_is_looked_for_in_this_folder(tmp_path, foreign):
    touch_checkpoint(tmp_path, 'model.ckpt-900', 'model.ckpt-1000')
    write_index(tmp_path, foreign)
    assert resolve_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-900')


def test_folder_as_tensorflow_wrote_it(tmp_path):
    write_checkpoint(tmp_path, VALUES, 'model.ckpt-5', index=True)
    write_checkpoint(tmp_path, VALUES, 'model.ckpt-7')
    assert resolved(tmp_path) == 'model.ckpt-5'


def test_folder_without_an_index_gives_the_highest_step(tmp_path):
    touch_checkpoint(tmp_path, 'model.ckpt-1000', 'model.ckpt-900', 'best.ckpt')
    assert resolved(tmp_path) == 'model.ckpt-1000'


def test_folder_with_one_checkpoint_that_names_no_step(tmp_path):
    touch_checkpoint(tmp_path, 'psenet')
    assert resolved(tmp_path) == 'psenet'


@pytest.mark.parametrize('content', [b'no index at all {', b'\xff\xfe\x00', b''])
def test_index_that_cannot_be_read_gives_the_highest_step_with_a_warning(
        tmp_path, messages, content):
    touch_checkpoint(tmp_path, 'model.ckpt-900', 'model.ckpt-1000')
    (tmp_path / 'checkpoint').write_bytes(content)
    assert resolved(tmp_path) == 'model.ckpt-1000'
    assert messages() == [f"{tmp_path / 'checkpoint'} cannot be read; using the highest step"]


def test_index_of_a_removed_checkpoint_gives_the_highest_step_with_a_warning(tmp_path, messages):
    touch_checkpoint(tmp_path, 'model.ckpt-900')
    write_index(tmp_path, 'model.ckpt-1000')
    assert resolved(tmp_path) == 'model.ckpt-900'
    assert 'names model.ckpt-1000, which does not exist' in messages()[0]


def test_sub_folder_called_checkpoint_is_no_index(tmp_path, messages):
    touch_checkpoint(tmp_path, 'model.ckpt-900')
    (tmp_path / 'checkpoint').mkdir()
    assert resolved(tmp_path) == 'model.ckpt-900'
    assert not messages()


def test_index_of_a_v1_checkpoint(tmp_path):
    touch(tmp_path, 'resnet_v1_50.ckpt')
    write_index(tmp_path, '/data/resnet_v1_50.ckpt')
    assert resolved(tmp_path) == 'resnet_v1_50.ckpt'


@pytest.mark.parametrize('suffix', ['', '.index', DATA, '.meta'])
def test_prefix_and_each_of_its_files(tmp_path, suffix):
    touch_checkpoint(tmp_path, 'model.ckpt-900', 'model.ckpt-1000')
    assert resolved(str(tmp_path / 'model.ckpt-900') + suffix) == 'model.ckpt-900'


def test_v1_file(tmp_path):
    touch(tmp_path, 'resnet_v1_50.ckpt')
    assert resolved(tmp_path / 'resnet_v1_50.ckpt') == 'resnet_v1_50.ckpt'


def test_folder_with_pattern_characters_in_its_name(tmp_path):
    directory = tmp_path / 'run [a]*'
    directory.mkdir()
    touch_checkpoint(directory, 'model.ckpt-3')
    assert resolved(directory) == resolved(directory / 'model.ckpt-3') == 'model.ckpt-3'


@pytest.mark.parametrize('path', ['nowhere', 'nowhere/', 'model.ckpt-10', 'model.ckpt-1.index'])
def test_missing_path_is_named(tmp_path, path):
    touch_checkpoint(tmp_path, 'model.ckpt-100')
    with pytest.raises(CheckpointError, match=r'there is no checkpoint at .*(nowhere|ckpt-1)'):
        resolve_checkpoint(os.path.join(str(tmp_path), path))


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f'no checkpoint in the directory {tmp_path}'):
        resolve_checkpoint(str(tmp_path))


def test_folder_with_a_v1_file_alone_asks_for_its_name(tmp_path):
    touch(tmp_path, 'resnet_v1_50.ckpt')
    with pytest.raises(CheckpointError, match='a checkpoint that is a single file'):
        resolve_checkpoint(str(tmp_path))


@pytest.mark.parametrize('given', ['', 'model.ckpt-7', 'model.ckpt-7.index'])
def test_index_file_without_data_is_refused(tmp_path, given):
    touch(tmp_path, 'model.ckpt-7.index')
    with pytest.raises(CheckpointError, match=r'model\.ckpt-7\.data-\* is missing'):
        resolve_checkpoint(str(tmp_path / given))


def test_indexed_checkpoint_without_data_is_refused(tmp_path):
    touch_checkpoint(tmp_path, 'model.ckpt-3')
    touch(tmp_path, 'model.ckpt-7.index')
    write_index(tmp_path, 'model.ckpt-7')
    with pytest.raises(CheckpointError, match=r'model\.ckpt-7\.data-\* is missing'):
        resolve_checkpoint(str(tmp_path))


@pytest.mark.parametrize('given', ['model.ckpt-7', 'model.ckpt-7' + DATA])
def test_data_without_index_file_is_refused(tmp_path, given):
    touch(tmp_path, 'model.ckpt-7' + DATA)
    with pytest.raises(CheckpointError, match=r'model\.ckpt-7\.index is missing'):
        resolve_checkpoint(str(tmp_path / given))


def test_find_checkpoints_sorts_by_step_then_by_name(tmp_path):
    touch_checkpoint(tmp_path, 'model.ckpt-1000', 'model.ckpt-900', 'b', 'a', 'other-900')
    touch(tmp_path, 'model.ckpt-5' + DATA, 'notes.txt')
    assert [os.path.basename(prefix) for prefix in find_checkpoints(str(tmp_path))] == [
        'a', 'b', 'model.ckpt-900', 'other-900', 'model.ckpt-1000']


@pytest.mark.parametrize('name, step', [('model.ckpt-900', 900), ('a/model.ckpt-0', 0),
                                        ('model.ckpt', -1), ('model-7/psenet', -1)])
def test_step_of(name, step):
    assert step_of(name) == step


def test_files_of_lists_the_index_last_and_nothing_else(tmp_path):
    touch_checkpoint(tmp_path, 'model.ckpt-1', 'model.ckpt-10')
    touch(tmp_path, 'model.ckpt-1.zip', 'model.ckpt-1.index.bak', 'model.ckpt-1.meta')
    assert files_of(str(tmp_path / 'model.ckpt-1')) == [
        str(tmp_path / 'model.ckpt-1') + suffix for suffix in (DATA, '.index')]


def test_indexed_name_of_a_folder_without_an_index(tmp_path):
    assert indexed_name(str(tmp_path)) is None


def test_a_fingerprint_follows_what_a_checkpoint_holds_and_nothing_else(tmp_path):
    first = write_checkpoint(tmp_path / 'a', {'weight': [1.0, 2.0]})
    same = write_checkpoint(tmp_path / 'b', {'weight': [1.0, 2.0]})
    other = write_checkpoint(tmp_path / 'c', {'weight': [1.0, 3.0]})
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)


def test_a_checkpoint_in_one_file_has_a_fingerprint(tmp_path):
    touch(tmp_path, 'old.ckpt')
    assert len(fingerprint(str(tmp_path / 'old.ckpt'))) == 32
    with pytest.raises(CheckpointError, match=r'new\.ckpt cannot be read'):
        fingerprint(str(tmp_path / 'new.ckpt'))


@pytest.mark.parametrize(('name', 'advice'), [
    ('resnet_v1_50_2016_08_28.tar.gz', 'an archive; unpack it'), ('model.ZIP', 'an archive'),
    ('psenet.pth', 'PyTorch'), ('best.pth.tar', 'PyTorch'), ('psenet.onnx', '--model')])
def test_files_of_other_kinds_are_told_of(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(CheckpointError, match=f'{name} is not a TensorFlow checkpoint.*{advice}'):
        resolve_checkpoint(str(tmp_path / name))


def test_an_archive_in_a_folder_without_checkpoint_is_named(tmp_path):
    (tmp_path / 'model.tar.gz').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'; unpack model\.tar\.gz'):
        resolve_checkpoint(str(tmp_path))
