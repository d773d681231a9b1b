"""tools.sweep as a person runs it, and eval.sh, which follows what it wrote."""

import csv
import json

import cv2
import pytest

from inference.thresholds import SUFFIX

VALUES = ('--seg_map_threshs=0.55,0.6,0.65', '--min_area_threshs=2,8', '--min_box_sides=0,25',
          '--min_scores=0,0.99', '--min_region_areas=0,100000')


def sweep(place, *arguments):
    return place.run('sweep', f'--checkpoint_path={place.checkpoint}', *VALUES,
                     f'--output_dir={place.directory / "sweep"}', *arguments)


@pytest.fixture(scope='module')
def swept(place):
    """What a sweep with --write printed; it ended well."""
    result = sweep(place, '--write')
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope='module')
def rows(place, swept):
    with open(str(place.directory / 'sweep' / 'sweep.csv')) as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_table_holds_every_combination(rows):
    assert len(rows) == 3 * 2 * 2 * 2 * 2
    assert list(rows[0]) == ['seg_map_thresh', 'min_area_thresh', 'min_box_side', 'min_score',
                             'min_region_area', 'short_side', 'precision', 'recall', 'hmean']
    # Nothing is so sure, or so large.
    assert all(row['recall'] == 0 for row in rows if row['min_region_area'])


def test_the_best_is_said_in_flags_and_kept_beside_the_checkpoint(place, rows, swept):
    best = max(rows, key=lambda row: row['hmean'])
    assert best['hmean'] == 1
    del best['short_side']
    flags = ('--seg_map_thresh=0.6 --min_area_thresh=2 --min_box_side=0 --min_score=0.0 '
             '--min_region_area=0')
    assert f'best: Hmean 1.0000 (precision 1.0000, recall 1.0000) with {flags}' in swept
    with open(place.prefix + SUFFIX) as file:
        assert json.load(file).items() >= dict(best, checkpoint='model.ckpt-1').items()


def test_eval_sh_follows_it_but_for_flags_and_scores_as_their_row(place, rows, swept):
    result = place.evaluate('--min_area_thresh=8')
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f'{SUFFIX}: --seg_map_thresh=0.6 --min_box_side=0 '
                               '--min_score=0.0 --min_region_area=0\n') == 1
    row = next(row for row in rows if list(row.values())[:5] == [0.6, 8, 0, 0, 0])
    assert 0 < row['hmean'] < 1
    score = json.loads(result.stdout.splitlines()[-1])
    assert {name: score[name] for name in ('precision', 'recall', 'hmean')} == {
        name: row[name] for name in ('precision', 'recall', 'hmean')}


def test_sizes_are_swept_too_and_the_best_is_followed(place, tmp_path):
    output = tmp_path / 'sizes'
    result = sweep(place, '--short_sides=0,64', f'--output_dir={output}', '--min_area_threshs=2')
    assert result.returncode == 0, result.stderr
    with open(str(output / 'sweep.csv')) as file:
        assert {row['short_side'] for row in csv.DictReader(file)} == {'0', '64'}
    refused = sweep(place, '--short_sides=0,64', '--short_side=64')
    assert refused.returncode == 1
    assert '--short_sides sets all sizes' in refused.stderr


def test_the_picture_can_be_looked_at(place, swept):
    picture = cv2.imread(str(place.directory / 'sweep' / 'sweep.png'))
    assert picture.shape[0] > 300
    assert picture.std() > 10


@pytest.mark.parametrize('argument, word', [
    ('--seg_map_threshs=0.5,high', '--seg_map_threshs=0.5,high'),
    ('--seg_map_threshs=0.5,1', '--seg_map_thresh=1.0 must be'), ('--min_box_sides=', 'numbers'),
    ('--workers=-1', '--workers'), ('--gt=none.zip', 'none.zip'),
    ('--checkpoint_path=none', 'none')])
def test_a_mistake_is_one_sentence(place, argument, word):
    result = sweep(place, argument)
    assert result.returncode == 1
    assert word in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
