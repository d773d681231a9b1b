"""eval.py and eval.sh as a person runs them, with a network that takes every pixel for text."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from inference.folder import images_by_stem
from inference.results import read_result
from nets.model import model
from tests.small_network.sitecustomize import PYTHONPATH, small_network
from utils.image_io import write_image

SURE = 9.0


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A checkpoint directory; the network's last layer answers a sure yes everywhere."""
    directory = tmp_path_factory.mktemp('checkpoint')
    with tf.Graph().as_default(), small_network():
        model(tf.placeholder(tf.float32, [1, 32, 32, 3]), is_training=False)
        with tf.variable_scope('feature_results/Conv_1', reuse=True):
            weights, biases = tf.get_variable('weights'), tf.get_variable('biases')
        answer = [tf.assign(weights, tf.zeros_like(weights)),
                  tf.assign(biases, tf.fill(biases.shape, SURE))]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(answer)
            tf.train.Saver().save(session, str(directory / 'model.ckpt-1'), write_meta_graph=False)
    with mock.patch.dict(os.environ, PYTHONPATH=PYTHONPATH):
        yield directory


@pytest.fixture
def images(tmp_path):
    """A directory with two images of 64x64 and 96x48 pixels."""
    directory = tmp_path / 'images'
    directory.mkdir()
    for name, shape in (('img_1.png', (64, 64, 3)), ('img_2.JPG', (48, 96, 3))):
        write_image(str(directory / name), np.full(shape, 128, np.uint8))
    return directory


def run(command, **kwargs):
    return subprocess.run(command, capture_output=True, encoding='utf-8', check=False, **kwargs)


def run_eval(project_root, *flags, **paths):
    given = [f'--{name}={path}' for name, path in paths.items()]
    return run([sys.executable, str(project_root / 'eval.py'), '--gpu_list=', *given, *flags])


def assert_refused(result, *words):
    """Checks for exit code 1 and one sentence that holds the words."""
    assert result.returncode == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1


def corners(path):
    """The boxes of a result file as sets of corners."""
    return [set(map(tuple, box.tolist())) for box in read_result(str(path))]


def test_every_image_is_done_and_an_unreadable_one_makes_exit_code_3(
        project_root, checkpoint, images, tmp_path):
    (images / 'img_3.jpg').write_bytes(b'no image')
    output = tmp_path / 'output'
    output.mkdir()
    (output / 'res_img_9.txt').write_text('1,2,3,4,5,6,7,8\r\n')
    (output / 'notes.txt').write_text('mine')
    result = run_eval(project_root, test_data_path=images, checkpoint_path=checkpoint,
                      output_dir=output)
    assert result.returncode == 3, result.stderr
    assert sorted(os.listdir(str(output))) == [
        'notes.txt', 'res_img_1.png', 'res_img_1.txt', 'res_img_2.JPG', 'res_img_2.txt',
        'res_img_3.txt']
    assert corners(output / 'res_img_1.txt') == [{(0, 0), (63, 0), (63, 63), (0, 63)}]
    # The network sees 96x64; row 63 of 64 is row 47 of 48.
    assert corners(output / 'res_img_2.txt') == [{(0, 0), (95, 0), (95, 47), (0, 47)}]
    assert corners(output / 'res_img_3.txt') == []
    assert 'img_3.jpg' in result.stderr
    assert 'images: 3, boxes: 2, network' in result.stderr
    assert 'deprecat' not in result.stderr


def test_ctrl_c_ends_it_at_once_and_leaves_whole_results(
        project_root, checkpoint, images, tmp_path):
    for number in range(3, 500):
        os.link(str(images / 'img_1.png'), str(images / f'img_{number}.png'))
    output = tmp_path / 'output'
    command = [sys.executable, str(project_root / 'eval.py'), '--gpu_list=', '--no_write_images',
               f'--test_data_path={images}', f'--checkpoint_path={checkpoint}',
               f'--output_dir={output}']
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding='utf-8') as process:
        seen = ''
        while not re.search(r'\| [1-9]', seen):  # the bar has moved
            letter = process.stderr.read(1)
            assert letter, seen
            seen += letter
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.endswith('error: interrupted\n')
    assert 'Traceback' not in rest
    written = os.listdir(str(output))
    in_order = [f'res_{stem}.txt' for stem in images_by_stem(str(images))]
    assert 0 < len(written) < len(in_order)
    assert set(written) == set(in_order[:len(written)])
    assert all(len(corners(output / name)) == 1 for name in written)


def test_eval_sh_scores_from_any_folder(project_root, checkpoint, images, tmp_path):
    os.remove(str(images / 'img_2.JPG'))
    with zipfile.ZipFile(str(tmp_path / 'gt.zip'), 'w') as archive:
        archive.writestr('gt_img_1.txt', '0,0,63,0,63,63,0,63,word\r\n')
    env = dict(os.environ, output_dir='a/output', ckpt_dir=str(checkpoint), test_data='images',
               gt='gt.zip', PYTHON=sys.executable)
    result = run(['bash', str(project_root / 'eval.sh'), '--no_write_images'], cwd=str(tmp_path),
                 env=env)
    assert result.returncode == 0, result.stderr
    assert '"hmean": 1.0' in result.stdout
    assert sorted(os.listdir(str(tmp_path / 'a' / 'output'))) == ['res_img_1.txt', 'results.zip']


def test_a_missing_checkpoint_is_refused_and_removes_nothing(project_root, images, tmp_path):
    output = tmp_path / 'output'
    output.mkdir()
    (output / 'res_img_9.txt').write_text('')
    result = run_eval(project_root, test_data_path=images, checkpoint_path=tmp_path / 'none',
                      output_dir=output)
    assert_refused(result, 'none')
    assert os.listdir(str(output)) == ['res_img_9.txt']


def test_a_missing_or_empty_folder_is_refused(project_root, tmp_path):
    assert_refused(run_eval(project_root, test_data_path=tmp_path / 'none'), 'none')
    (tmp_path / 'empty').mkdir()
    assert_refused(run_eval(project_root, test_data_path=tmp_path / 'empty'), 'empty')


def test_two_images_of_one_stem_are_refused(project_root, images):
    (images / 'img_1.jpg').write_bytes(b'')
    assert_refused(run_eval(project_root, test_data_path=images), 'img_1.jpg', 'img_1.png')


@pytest.mark.parametrize('flag', ['--seg_map_thresh=2', '--min_area_thresh=-1', '--max_side_len=x'])
def test_bad_thresholds_are_refused(project_root, images, flag):
    assert_refused(run_eval(project_root, flag, test_data_path=images), flag.split('=')[0][2:])


def test_help_lists_the_published_flags(project_root):
    result = run([sys.executable, str(project_root / 'eval.py'), '--help'])
    assert result.returncode == 0
    for name in ('test_data_path', 'checkpoint_path', 'gpu_list', 'output_dir', 'no_write_images'):
        assert name in result.stdout


@pytest.fixture
def recorder(tmp_path):
    """A PYTHON for eval.sh that writes its arguments to `calls` and fails as `code` says."""
    path = tmp_path / 'python'
    path.write_text('#!/bin/sh\necho "$@" >> "$calls"\ncase "$1" in *eval.py) exit $code;; esac\n')
    path.chmod(0o755)
    return path


def run_steps(project_root, recorder, tmp_path, code, *arguments):
    gt = tmp_path / 'gt.zip'
    gt.write_bytes(b'')
    calls = tmp_path / 'calls'
    env = dict(os.environ, PYTHON=str(recorder), calls=str(calls), code=str(code), gt=str(gt),
               output_dir=str(tmp_path / 'the output'))
    result = run(['bash', str(project_root / 'eval.sh'), *arguments], env=env)
    return result, calls.read_text().splitlines()


def test_eval_sh_runs_the_published_steps_with_the_published_defaults(
        project_root, recorder, tmp_path):
    result, calls = run_steps(project_root, recorder, tmp_path, 0, '--max_side_len=64')
    assert result.returncode == 0
    assert calls[0].startswith(f'{project_root}/eval.py ')
    assert calls[1].startswith(f'-m tools.pack_results --output_dir={tmp_path}/the output ')
    assert calls[2].startswith('evaluation/script.py ')
    for argument in (f'--test_data_path={project_root}/ocr/ch4_test_images ', '--gpu_list= ',
                     f'--checkpoint_path={project_root}/checkpoint/ ', ' --max_side_len=64'):
        assert argument in calls[0]
    assert calls[2].endswith(f'-g={tmp_path}/gt.zip -s={tmp_path}/the output/results.zip')


@pytest.mark.parametrize(('code', 'words'), [(1, ''), (3, 'could not be read'), (130, '')])
def test_eval_sh_stops_at_the_first_failure(project_root, recorder, tmp_path, code, words):
    result, calls = run_steps(project_root, recorder, tmp_path, code)
    assert result.returncode == code
    assert len(calls) == 1
    assert words in result.stderr
    assert bool(words) == bool(result.stderr)


def test_eval_sh_names_a_missing_ground_truth_before_it_starts(project_root, recorder, tmp_path):
    env = dict(os.environ, PYTHON=str(recorder), gt=str(tmp_path / 'none.zip'))
    assert_refused(run(['bash', str(project_root / 'eval.sh')], env=env), 'none.zip')


def test_polygons_are_written_recognised_and_scored(project_root, checkpoint, images, tmp_path):
    output = tmp_path / 'output'
    for _ in range(2):
        result = run_eval(project_root, '--output_shape=polygon', test_data_path=images,
                          checkpoint_path=checkpoint, output_dir=output)
        assert result.returncode == 0, result.stderr
    line = (output / 'res_img_1.txt').read_text().strip()
    assert set(zip(*[iter(map(int, line.split(',')))] * 2)) == {(0, 0), (63, 0), (63, 63), (0, 63)}
    with zipfile.ZipFile(str(tmp_path / 'gt.zip'), 'w') as archive:
        for name, right, bottom in (('img_1', 64, 64), ('img_2', 96, 48)):
            archive.writestr(f'gt_{name}.txt', f'0,0,{right},0,{right},{bottom},0,{bottom},word\n')
    env = dict(os.environ, output_dir=str(output), ckpt_dir=str(checkpoint), test_data=str(images),
               gt=str(tmp_path / 'gt.zip'), PYTHON=sys.executable)
    result = run(['bash', str(project_root / 'eval.sh'), '--output_shape=polygon'], env=env)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])['hmean'] == 1
