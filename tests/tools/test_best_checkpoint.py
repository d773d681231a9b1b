"""tools.best_checkpoint as a person runs it, beside a training that has one checkpoint."""

import csv
import os
import shutil
import signal
import subprocess

import cv2
import pytest

from training.checkpoints import resolve_checkpoint
from training.run_folder import files_of

FLAGS = ('--seg_map_thresh=0.6', '--min_area_thresh=2')


@pytest.fixture(scope='module')
def run(place, tmp_path_factory):
    """The directory of a training, followed until the checkpoint was scored and Ctrl-C pressed."""
    directory = tmp_path_factory.mktemp('run')
    for path in files_of(place.prefix):
        os.link(path, str(directory / os.path.basename(path)))
    command = place.command('best_checkpoint', f'--checkpoint_path={directory}', *FLAGS)
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding='utf-8',
                          env=place.environment) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if 'kept in' in line:
                break
        process.send_signal(signal.SIGINT)
        lines.append(process.communicate(timeout=120)[1])
    assert process.returncode == 130, lines
    assert lines[-1].endswith('error: interrupted\n')
    assert 'Traceback' not in ''.join(lines)
    yield directory
    shutil.rmtree(str(directory))


def test_the_score_is_that_of_the_ground_truth_made_with_these_thresholds(run):
    with open(str(run / 'best' / 'scores.csv')) as file:
        row, = csv.DictReader(file)
    assert (row['checkpoint'], row['step'], row['images']) == ('model.ckpt-1', '1', '3')
    assert float(row['hmean']) == 1


def test_the_checkpoint_is_kept_whole_and_scores_and_pictures_are_there(run):
    assert resolve_checkpoint(str(run / 'best')) == str(run / 'best' / 'model.ckpt-1')
    assert cv2.imread(str(run / 'best' / 'scores.png')).std() > 10
    events, = os.listdir(str(run / 'eval'))
    assert events.endswith('.psenet')


def test_a_second_process_scores_nothing_again_and_names_what_cannot_be_scored(place, run):
    for suffix in ('.index', '.data-00000-of-00001'):
        (run / f'model.ckpt-2{suffix}').write_bytes(b'nothing')
    result = place.run('best_checkpoint', f'--checkpoint_path={run}', '--once', *FLAGS)
    assert result.returncode == 3
    assert 'model.ckpt-2 is damaged' in result.stderr
    assert 'Hmean' not in result.stderr


@pytest.mark.parametrize('arguments, word', [
    (('--keep=0',), '--keep=0'), (('--interval=nan',), '--interval'), (('--gt=no.zip',), 'no.zip'),
    (('--checkpoint_path=/none', '--best_path=/none/'), '--best_path'),
    (('--checkpoint_path=/none', '--once'), 'no checkpoint in --checkpoint_path')])
def test_a_mistake_is_one_sentence(place, arguments, word):
    result = place.run('best_checkpoint', *arguments)
    assert result.returncode == 1
    assert word in result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1
