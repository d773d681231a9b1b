"""gt.zip from a directory of ground-truth files."""

import subprocess
import sys
import zipfile

import pytest

from evaluation.parameters import DEFAULT_PARAMETERS
from evaluation.protocol import read_ground_truth, with_names_of
from tools.make_gt_zip import make_gt_zip
from utils.errors import PSENetError
from utils.utils_tool import logger

LINE = '0,0,10,0,10,10,0,10,a,b'


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / '真 值'
    directory.mkdir()
    (directory / 'gt_img_10.txt').write_bytes(b'')
    (directory / 'gt_img_2.txt').write_bytes(f'\ufeff{LINE}\r\n{LINE},###\r\n'.encode())
    (directory / 'gt_img_1.txt').write_bytes(f'{LINE}\n'.encode())
    (directory / 'img_1.jpg').write_bytes(b'an image beside it')
    return directory


def refusal(*arguments):
    with pytest.raises(PSENetError) as error:
        make_gt_zip(*map(str, arguments))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_files_in_the_order_of_their_numbers_as_they_are(directory, tmp_path):
    out = str(tmp_path / 'gt.zip')
    assert make_gt_zip(str(directory), out) == 3
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ['gt_img_1.txt', 'gt_img_2.txt', 'gt_img_10.txt']
        for name in archive.namelist():
            assert archive.read(name) == (directory / name).read_bytes()


def test_scoring_reads_it(directory, tmp_path):
    out = str(tmp_path / 'gt.zip')
    make_gt_zip(str(directory), out)
    samples = read_ground_truth(out, DEFAULT_PARAMETERS)
    assert {name: len(sample.quads) for name, sample in samples.items()} == {
        '1': 1, '2': 2, '10': 0}


def test_images_of_any_name(tmp_path):
    (tmp_path / 'gt').mkdir()
    for name in ('holiday 10.txt', 'holiday 9.txt', 'menu.TXT', '._menu.txt'):
        (tmp_path / 'gt' / name).write_text(LINE)
    out = str(tmp_path / 'gt.zip')
    assert make_gt_zip(str(tmp_path / 'gt'), out) == 3
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ['gt_holiday 9.txt', 'gt_holiday 10.txt', 'gt_menu.txt']
    parameters = with_names_of(out, DEFAULT_PARAMETERS)
    assert list(read_ground_truth(out, parameters)) == ['holiday 9', 'holiday 10', 'menu']


def test_fractions_are_rounded_and_told_of(directory, tmp_path, caplog):
    (directory / 'gt_img_3.txt').write_text('0.5,-0.5,10.49,0,10,10,0,10,3.5\n'
                                            '0,0,9,0,9,9,0,9,1.5,2.5\n')
    (directory / 'gt_img_4.txt').write_text('1.5, 2, 30.2, 40, "1.5"\n')
    out = str(tmp_path / 'gt.zip')
    logger.addHandler(caplog.handler)
    try:
        make_gt_zip(str(directory), out)
    finally:
        logger.removeHandler(caplog.handler)
    samples = read_ground_truth(out, DEFAULT_PARAMETERS)
    assert samples['3'].quads.tolist() == [[[1, -1], [10, 0], [10, 10], [0, 10]],
                                           [[0, 0], [9, 0], [9, 9], [0, 9]]]
    assert samples['4'].quads[0].tolist() == [[2, 2], [30, 2], [30, 40], [2, 40]]
    assert '5 fractional coordinates in 2 files are rounded' in caplog.text


def test_the_same_files_give_the_same_bytes(directory, tmp_path):
    make_gt_zip(str(directory), str(tmp_path / 'a.zip'))
    for path in sorted(directory.iterdir(), reverse=True):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        path.chmod(0o600)
    make_gt_zip(str(directory), str(tmp_path / 'b.zip'))
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()


def test_an_archive_that_is_there_is_kept(directory, tmp_path):
    out = tmp_path / 'gt.zip'
    out.write_bytes(b'before')
    assert 'exists already' in refusal(directory, out)
    assert out.read_bytes() == b'before'
    assert make_gt_zip(str(directory), str(out), overwrite=True) == 3
    assert zipfile.is_zipfile(str(out))


@pytest.mark.parametrize('name', ['img_1.txt', 'readme.txt', 'GT_IMG_3.TXT'])
def test_text_files_of_other_names(directory, tmp_path, name):
    (directory / name).write_text('')
    assert f'{directory}/{name} is not named gt_<image>.txt, as gt_img_1.txt is' in refusal(
        directory, tmp_path / 'a')


@pytest.mark.parametrize('content, message', [
    (f'{LINE}\n\n1,2,3\n'.encode(), 'gt_img_3.txt, line 3: expected'),
    (b'0,0,10,0,10,10,0,10', 'gt_img_3.txt, line 1: expected'),
    (b'0,10,10,10,10,0,0,0,a', 'gt_img_3.txt, line 1: the points are counter-clockwise'),
    (b'\n\xff', 'gt_img_3.txt, line 2: not UTF-8')])
def test_bad_lines_are_named_and_nothing_is_written(directory, tmp_path, content, message):
    (directory / 'gt_img_3.txt').write_bytes(content)
    assert f'{directory}/{message}' in refusal(directory, tmp_path / 'gt.zip')
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]


def test_folders_that_cannot_be_used(directory, tmp_path):
    assert 'cannot list the directory' in refusal(tmp_path / 'none', tmp_path / 'a.zip')
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert 'holds no gt_<image>.txt file' in refusal(empty, tmp_path / 'a.zip')
    (directory / 'gt_img_3.txt').mkdir()
    assert 'cannot read' in refusal(directory, tmp_path / 'a.zip')


def test_an_archive_that_cannot_be_written(directory, tmp_path):
    assert 'cannot write' in refusal(directory, tmp_path / 'none' / 'gt.zip')


def command(project_root, *arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'tools.make_gt_zip', *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, **options)


def test_the_command(project_root, directory, tmp_path):
    arguments = [f'--folder={directory}', '--out=gt.zip']
    first = command(project_root, *arguments, cwd=str(tmp_path))
    assert first.returncode == 0
    assert 'packed 3 files into gt.zip' in first.stdout + first.stderr
    again = command(project_root, *arguments, cwd=str(tmp_path))
    assert again.returncode == 1
    assert again.stderr.startswith('error: gt.zip exists already')
    assert command(project_root, *arguments, '--overwrite', cwd=str(tmp_path)).returncode == 0


def test_the_command_explains_itself(project_root):
    shown = command(project_root, '--help')
    assert shown.returncode == 0
    assert '--folder' in shown.stdout
    assert 'overwrite' in shown.stdout
    missing = command(project_root)
    assert missing.returncode == 1
    assert '--folder is missing' in missing.stderr


def test_official_files_make_an_archive_that_scores_like_the_official_one(icdar_dir, tmp_path):
    official = str(icdar_dir / 'gt_first100.zip')
    directory = tmp_path / 'gt'
    with zipfile.ZipFile(official) as archive:
        archive.extractall(str(directory))
    out = str(tmp_path / 'gt.zip')
    assert make_gt_zip(str(directory), out) == 100
    mine, theirs = (read_ground_truth(path, DEFAULT_PARAMETERS) for path in (out, official))
    assert list(mine) == list(theirs)
    for name in mine:
        assert (mine[name].quads == theirs[name].quads).all()
        assert (mine[name].ignore_tags == theirs[name].ignore_tags).all()
