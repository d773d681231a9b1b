"""eval.py --platform=npu through the real scripts, over the fake adapter."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from nets.model import model
from tests.reference_rule import load_rule_weights
from tests.small_network.sitecustomize import PYTHONPATH, small_network
from utils.image_io import write_image

PATIENCE_SECONDS = 240
OF_THE_DEVICE = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'ASCEND_DEVICE_ID', 'DEVICE_ID',
                 'JOB_ID', 'PYTHONPATH')
# Image -> (width, height).
IMAGES = {'img_1': (64, 64), 'img_2': (64, 64), 'img_3': (96, 64), 'img_4': (64, 96)}
SIZES = '64x64,96x64,96x96,640x640'
# Finds boxes with random weights, and no score is nearer to it than 8e-4: rounding decides nothing.
SENSITIVE = ('--seg_map_thresh=0.35', '--min_area_thresh=1', '--no_write_images')


class Place:
    """A checkpoint of random weights, images, and a directory for the results of each run."""

    def __init__(self, root, directory):
        self.root = root
        self.directory = directory
        self.record = directory / 'record'
        self.checkpoint = directory / 'checkpoint'
        self._write_checkpoint()
        (directory / 'images').mkdir()
        with zipfile.ZipFile(str(directory / 'gt.zip'), 'w') as archive:
            for number, (stem, (width, height)) in enumerate(IMAGES.items()):
                pixels = np.random.RandomState(number).randint(0, 256, (height, width, 3))
                write_image(str(directory / 'images' / f'{stem}.png'), pixels.astype(np.uint8))
                archive.writestr(f'gt_{stem}.txt', '0,0,20,0,20,20,0,20,word\r\n')

    def _write_checkpoint(self):
        with tf.Graph().as_default(), tf.Session() as session, small_network():
            model(tf.placeholder(tf.float32, [1, 32, 32, 3]), is_training=False)
            load_rule_weights(session, tf.global_variables())
            tf.train.Saver().save(session, str(self.checkpoint / 'model.ckpt-1'),
                                  write_meta_graph=False)

    def evaluate(self, output, *flags, adapter=True, **variables):
        """eval.sh: (exit code, what it printed)."""
        kept = {name: value for name, value in os.environ.items() if name not in OF_THE_DEVICE}
        kept['PYTHONPATH'] = PYTHONPATH
        if adapter:
            kept.update(PYTHONPATH=f'{self.root}/tests/fakes:{PYTHONPATH}',
                        FAKE_NPU_RECORD=str(self.record))
        done = subprocess.run(
            ['bash', str(self.root / 'eval.sh'), *flags], check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_SECONDS,
            env={**kept, 'PYTHON': sys.executable, 'test_data': str(self.directory / 'images'),
                 'ckpt_dir': str(self.checkpoint), 'output_dir': str(self.directory / output),
                 'gt': str(self.directory / 'gt.zip'), **variables})
        return done.returncode, done.stdout

    def results(self, output):
        """{stem: text of the result file}."""
        return {stem: (self.directory / output / f'res_{stem}.txt').read_text() for stem in IMAGES}


@pytest.fixture(scope='module')
def place(project_root, tmp_path_factory):
    """Where the runs of this module take place."""
    place = Place(project_root, tmp_path_factory.mktemp('eval_npu'))
    yield place
    shutil.rmtree(str(place.checkpoint))  # pytest keeps directories, and this one takes 110 MB


@pytest.fixture(scope='module')
def on_npu(place):
    """A run through the script, the four images in three sizes."""
    return place.evaluate('npu', '--platform=npu', f'--npu_input_sizes={SIZES}',
                          '--npu_option=op_select_implmode=high_precision', *SENSITIVE)


def test_each_size_that_occurs_is_compiled_once(place, on_npu):
    exit_code, log = on_npu
    assert exit_code == 0, log
    assert '"hmean"' in log
    events = [json.loads(line) for line in place.record.read_text().splitlines()]
    session, = (event for event in events if event['event'] == 'session')
    assert session['parameters'] == {
        'use_off_line': True, 'graph_run_mode': 0, 'op_select_implmode': 'high_precision'}
    runs = [event for event in events if event['event'] == 'run' and event['kind'] == 'compute']
    assert [list(run['feeds'].values()) for run in runs] == [
        [[1, 64, 64, 3]], [[1, 64, 96, 3]], [[1, 96, 96, 3]]]


def test_images_of_a_compiled_size_have_the_boxes_of_other_platforms(place, on_npu):
    exit_code, log = place.evaluate('cpu', *SENSITIVE, adapter=False)
    assert exit_code == 0, log
    ours, theirs = place.results('npu'), place.results('cpu')
    assert all(ours.values())
    assert {stem: ours[stem] for stem in ('img_1', 'img_2', 'img_3')} == {
        stem: theirs[stem] for stem in ('img_1', 'img_2', 'img_3')}


def test_a_machine_without_the_adapter_gets_one_sentence(place):
    exit_code, log = place.evaluate('no', '--platform=npu', adapter=False)
    assert exit_code == 1
    assert log.startswith('error: npu_bridge')
    assert log.endswith('use --platform=gpu for GPUs and CPUs\n')
    assert log.count('\n') == 1


@pytest.mark.parametrize('flags, variables, part', [
    (('--precision_mode=force_fp16',), {}, 'precision_mode) have no effect without --platform=npu'),
    (('--platform=npu', '--npu_input_sizes=1280x720'), {}, '--npu_input_sizes=1280x720 must be'),
    (('--platform=npu', '--dump_step=1'), {}, '--dump_step has no effect without --enable_dump'),
    (('--platform=npu',), {'DEVICE_ID': '-1'}, 'DEVICE_ID=-1 must be an integer'),
    (('--platform=npu',), {'RANK_SIZE': '8'}, 'RANK_SIZE=8'),
    (('--platform=tpu',), {}, '--platform'),
])
def test_mistakes_get_one_sentence(place, flags, variables, part):
    exit_code, log = place.evaluate('no', *flags, **variables)
    assert exit_code == 1
    assert log.startswith('error: ')
    assert part in log
    assert log.count('\n') == 1
