"""The table of scores: what it remembers, and what it refuses."""

import pytest

from tools.scoring.follower import Scored, ScoreLog, Settings, best_of
from utils.errors import PSENetError

SETTINGS = Settings(0.9, 6, 0, 2400, 60, 'abc')
ROWS = [Scored('model.ckpt-10', 10, 0.5, 0.25, 1 / 3, 'f10'),
        Scored('model.ckpt-20', 20, 0.75, 0.7, 0.1 + 0.2, 'f20')]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'scores.csv')


@pytest.fixture
def written(path):
    log = ScoreLog(path, SETTINGS)
    for row in ROWS:
        log.add(row)
    return path


def test_a_new_process_finds_every_digit_again(written):
    log = ScoreLog(written, SETTINGS)
    assert log.rows == ROWS
    assert log.knows('f20')
    assert not log.knows('f30')


def test_the_file_is_a_plain_table(written):
    with open(written) as file:
        lines = file.read().splitlines()
    assert lines[0] == ('checkpoint,step,precision,recall,hmean,fingerprint,seg_map_thresh,'
                        'min_area_thresh,min_box_side,max_side_len,images,ground_truth,'
                        'apply_exif_orientation,tile,min_score,min_region_area,short_side,'
                        'long_side,output_shape,polygon_tolerance')
    assert lines[1] == ('model.ckpt-10,10,0.5,0.25,0.3333333333333333,f10,0.9,6,0,2400,60,abc,'
                        'False,False,0.0,0,0,0,quad,4.0')


def test_a_table_of_an_earlier_release_goes_on(written):
    with open(written) as file:
        lines = file.read().splitlines()
    with open(written, 'w') as file:
        file.writelines('\n'.join(line.rsplit(',', 2)[0] for line in lines))
    assert len(ScoreLog(written, SETTINGS).rows) == len(lines) - 1


@pytest.mark.parametrize('name, value', [
    ('seg_map_thresh', 0.8), ('images', 59), ('ground_truth', 'abd'), ('tile', True)])
def test_scores_of_other_settings_are_not_mixed(written, name, value):
    with pytest.raises(PSENetError, match=f'line 2 was scored with {name} .*now it is {value}'):
        ScoreLog(written, SETTINGS._replace(**{name: value}))


@pytest.mark.parametrize('content', [b'a,b\n1,2\n', b'checkpoint,step\nx,1\n', b'\xff\n1\n'])
def test_a_file_that_is_no_such_table_is_named(path, content):
    with open(path, 'wb') as file:
        file.write(content)
    with pytest.raises(PSENetError, match=r'scores\.csv.*remove'):
        ScoreLog(path, SETTINGS)


def test_the_best_come_first_and_of_equal_ones_the_earlier():
    rows = [ROWS[0]._replace(step=step, hmean=hmean)
            for step, hmean in ((10, 0.5), (40, 0.7), (20, 0.6), (30, 0.7))]
    assert [row.step for row in best_of(rows, 3)] == [30, 40, 20]
