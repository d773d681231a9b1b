"""check_data: the report on a directory with every kind of fault, through the command."""

import re
import subprocess
import sys

import pytest

from tools.demo_data import DatasetSpec, ensure_dataset
from utils.data_provider.datasets import load_dataset
from utils.image_io import read_image


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A training directory in which nothing is wrong."""
    directory = tmp_path_factory.mktemp('check') / '数据 1'
    ensure_dataset(str(directory), DatasetSpec(train_images=6, test_images=1, size=96, seed=5))
    return directory / 'train'


def _run(project_root, directory, cwd, *arguments):
    command = [sys.executable, '-m', 'tools.check_data',
               f'--training_data_path={directory}', '--input_sizes=96', *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=str(cwd), check=False)


@pytest.fixture(scope='module')
def spoilt(good, project_root, tmp_path_factory):
    """A directory with a fault of every kind, and how the command ends on it under --strict."""
    directory = tmp_path_factory.mktemp('spoilt')
    for path in good.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    (directory / 'gt_img_1.txt').write_text('9,9,9,9,9,9,9,9,dot\n1,1,40,1,40,20,1,20,word\n')
    data = (directory / 'img_2.jpg').read_bytes()
    (directory / 'img_2.jpg').write_bytes(data[:len(data) // 2])
    (directory / 'gt_img_3.txt').write_text('1,1,40\n')
    (directory / 'gt_img_4.txt').rename(directory / 'gt_img_44.txt')
    return directory, _run(project_root, directory, directory, '--strict')


class TestGoodFolder:
    @pytest.fixture(scope='class')
    def ended(self, project_root, good, tmp_path_factory):
        directory = tmp_path_factory.mktemp('out')
        ended = _run(project_root, good, directory, '--strict', '--out=图.png')
        return directory, ended

    def test_nothing_is_found(self, ended):
        assert ended[1].returncode == 0, ended[1].stderr
        assert ended[1].stdout.rstrip().endswith('no problems found')

    def test_counts_are_those_that_training_logs(self, ended, good):
        counts = load_dataset(str(good))[1]
        for number, what in ((counts.images, 'images'), (counts.pairs, 'pairs of image and label'),
                             (counts.boxes, 'regions in these'),
                             (counts.usable_regions, 'usable regions')):
            assert re.search(rf'(?m)^ +{number} {what}$', ended[1].stdout)

    def test_survival_has_a_row_for_each_way(self, ended):
        for way in ('whole', 'crops'):
            row = re.search(rf'(?m)^ +96 {way} +(.*)$', ended[1].stdout).group(1)
            shares = [float(share) for share in row.replace('%', '').split()]
            assert len(shares) == 6
            assert shares == sorted(shares)
            assert 0 < shares[0] <= shares[-1] <= 100

    def test_picture(self, ended):
        assert read_image(str(ended[0] / '图.png')).shape == (1020, 1440, 3)


class TestSpoiltFolder:
    def test_strict_ends_with_1(self, spoilt):
        assert spoilt[1].returncode == 1
        assert 'Traceback' not in spoilt[1].stderr

    @pytest.mark.parametrize('title, place', [
        ('1 regions of less than one square pixel', 'gt_img_1.txt:1'),
        ('2 pairs that cannot be read', 'img_2.jpg'),
        ('2 pairs that cannot be read', 'gt_img_3.txt:1'),
        ('1 images without a label', 'img_4.jpg'),
        ('1 label files without an image', 'gt_img_44.txt')])
    def test_every_fault_is_named(self, spoilt, title, place):
        directory, ended = spoilt
        part, = (part for part in ended.stdout.split('\n\n') if part.startswith(title))
        assert f'{directory}/{place}' in part

    def test_counts_follow(self, spoilt):
        for line in ('6 images', '5 pairs of image and label', '2 of them unreadable',
                     '3 usable images', '1 invalid'):
            assert re.search(rf'(?m)^ +{line}$', spoilt[1].stdout)

    def test_regions_of_an_image_that_cannot_be_decoded_do_not_count(self, spoilt):
        directory, ended = spoilt
        samples, counts = load_dataset(str(directory))
        lost, = (sample for sample in samples if sample.image_path.endswith('img_2.jpg'))
        regions = counts.usable_regions - int((~lost.ignore_tags).sum())
        assert re.search(rf'(?m)^ +{regions} usable regions$', ended.stdout)

    def test_without_strict_it_ends_well_and_show_limits_what_is_named(self, spoilt, project_root,
                                                                       tmp_path):
        ended = _run(project_root, spoilt[0], tmp_path, '--show=1')
        assert ended.returncode == 0, ended.stderr
        assert 'and 1 more; --show=0 lists all' in ended.stdout


@pytest.mark.parametrize('arguments, message', [
    (['--training_data_path=absent'], 'absent cannot be listed'),
    ([], 'contains no jpg, jpeg or png image'),
    (['--input_sizes=large'], '--input_sizes=large must be integers'),
    (['--input_sizes=100'], 'multiple of 32')])
def test_command_says_what_is_wrong_in_a_sentence(project_root, tmp_path, arguments, message):
    ended = _run(project_root, tmp_path, tmp_path, *arguments)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert 'Traceback' not in ended.stderr
