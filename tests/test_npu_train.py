"""Training on one NPU through the real scripts, over the fake adapter."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.small_network import sitecustomize as small_network
from tools.demo_data import DatasetSpec, ensure_dataset
from training.checkpoints import open_checkpoint
from training.run_folder import find_checkpoints

PATIENCE_SECONDS = 240
SMALL = ('--input_size=64', '--batch_size_per_gpu=2', '--num_readers=2', '--seed=3',
         '--save_summary_steps=1', '--pretrained_model_path=')
OF_THE_DEVICE = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'ASCEND_DEVICE_ID', 'DEVICE_ID',
                 'JOB_ID', 'PYTHONPATH')


def environment(**variables):
    """This process's environment without what is about devices, and these variables."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_THE_DEVICE}
    return {**kept, 'PYTHON': sys.executable, **variables}


def run(command, variables, directory):
    """Runs in a directory: (exit code, log)."""
    done = subprocess.run(command, env=environment(**variables), cwd=str(directory), check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE_SECONDS)
    return done.returncode, done.stdout


class Place:
    """A data set, and runs of either script on it, each in a directory of its own."""

    def __init__(self, root, directory):
        self.root = root
        self.directory = directory
        self.record = directory / 'record'
        ensure_dataset(str(directory / 'data'), DatasetSpec(train_images=8, test_images=2, size=96))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for path in self.directory.glob('*/model.ckpt-*'):  # 454 MB each, and pytest keeps them
            path.unlink()

    def arguments(self, run_name, *flags):
        return [f"--training_data_path={self.directory / 'data' / 'train'}",
                f'--checkpoint_path={self.directory / run_name}', *SMALL, *flags]

    def on_npu(self, run_name, *flags, **variables):
        """train_npu.sh from another directory."""
        fakes = self.root / 'tests' / 'fakes'
        return run(['bash', str(self.root / 'train_npu.sh'), *self.arguments(run_name, *flags)],
                   {'PYTHONPATH': f'{fakes}:{small_network.PYTHONPATH}',
                    'FAKE_NPU_RECORD': str(self.record), **variables}, self.directory)

    def on_cpu(self, run_name, *flags):
        """train.py on the CPU."""
        return run([sys.executable, str(self.root / 'train.py'), '--gpu_list=',
                    '--learning_rate=0.0001', *self.arguments(run_name, *flags)],
                   {'PYTHONPATH': small_network.PYTHONPATH}, self.directory)

    def curves(self, run_name):
        """{tag: {step: value}} of a run's scalars."""
        import tensorflow as tf
        found = {}
        for path in sorted((self.directory / run_name).glob('events*')):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    if value.HasField('simple_value'):
                        found.setdefault(value.tag, {})[event.step] = value.simple_value
        return found

    def checkpoints(self, run_name):
        """Steps of the checkpoints of a run."""
        return sorted(open_checkpoint(prefix).global_step()
                      for prefix in find_checkpoints(str(self.directory / run_name)))


@pytest.fixture(scope='module')
def place(project_root, tmp_path_factory):
    """Where the runs of this module take place."""
    with Place(project_root, tmp_path_factory.mktemp('npu')) as place:
        yield place


@pytest.fixture(scope='module')
def trained(place):
    """Three steps with the fixed scale, which is a power of two."""
    return place.on_npu('npu', '--max_steps=3')


@pytest.fixture(scope='module')
def restored(place, trained):
    """The run goes on with a dynamic scale and overflows in its 1st, 2nd and 4th step."""
    return place.on_npu('npu', '--max_steps=6', '--restore', '--loss_scale_mode=dynamic',
                        FAKE_NPU_OVERFLOW_STEPS='1,2,4')


def test_a_short_run_through_the_script(place, trained):
    exit_code, log = trained
    assert exit_code == 0, log
    assert place.checkpoints('npu') == [3]
    assert set(place.curves('npu')['loss_scale'].values()) == {1024.0}


def test_every_session_is_configured_alike(place, trained):
    events = [json.loads(line) for line in place.record.read_text().splitlines()]
    sessions = [event for event in events if event['event'] == 'session']
    assert sessions
    assert len({session['config'] for session in sessions}) == 1
    assert sessions[0]['parameters'] == {'use_off_line': True}
    steps = [event for event in events if event['event'] == 'run' and event['kind'] == 'train']
    assert len({(event['pid'], tuple(event['fetches'])) for event in steps}) == len(
        {event['pid'] for event in steps})


def test_losses_are_those_of_other_devices(place, trained):
    exit_code, log = place.on_cpu('cpu', '--max_steps=3')
    assert exit_code == 0, log
    ours, theirs = place.curves('npu'), place.curves('cpu')
    assert sorted(theirs['total_loss']) == [1, 2, 3]
    for tag, curve in theirs.items():
        for step, value in curve.items():
            assert ours[tag][step] == pytest.approx(value, abs=1e-6, rel=1e-6), (tag, step)


def test_adams_powers_go_on_on_another_device_and_back(place, trained):
    shutil.copytree(str(place.directory / 'npu'), str(place.directory / 'moved'))
    for step, go_on in ((4, place.on_cpu), (5, place.on_npu)):
        exit_code, log = go_on('moved', f'--max_steps={step}', '--restore')
        assert exit_code == 0, log
        assert 'start afresh' not in log
        checkpoint = open_checkpoint(str(place.directory / 'moved'))
        power, = (checkpoint.reader.get_tensor(name) for name in checkpoint.shapes
                  if name.endswith('beta1_power'))
        assert power == pytest.approx(0.9 ** (step + 1))


def test_restore_skips_the_steps_that_overflow_and_no_others(place, restored):
    exit_code, log = restored
    assert exit_code == 0, log
    assert re.search(r'restored \S+-3', log)
    assert re.findall(r'step (\d+): the gradients overflowed.*loss scale (\d+)', log) == [
        ('4', '1024'), ('4', '512'), ('5', '512')]
    assert place.checkpoints('npu')[-1] == 6
    scales = place.curves('npu')['loss_scale']
    assert {step: scales[step] for step in (4, 5, 6)} == {4: 512.0, 5: 512.0, 6: 512.0}


def test_overflow_after_overflow_ends_the_run_and_saves_nothing(place, restored):
    before = place.checkpoints('npu')
    exit_code, log = place.on_npu('npu', '--max_steps=9', '--restore', '--max_skipped_steps=1',
                                  FAKE_NPU_OVERFLOW_STEPS='2,3')
    assert exit_code == 1, log
    last = log.strip().splitlines()[-1]
    assert last.startswith('error: training is stuck after step 7: ')
    assert '2 consecutive steps overflowed' in last
    assert 'loss scale at 1024' in last
    assert place.checkpoints('npu') == before


def test_a_machine_without_the_adapter_gets_one_sentence(place):
    exit_code, log = place.on_npu('no', PYTHONPATH='')
    assert exit_code == 1
    assert log.startswith('error: npu_bridge')
    assert 'train.py is for GPUs and CPUs' in log
    assert log.count('\n') == 1


@pytest.mark.parametrize('flags, variables, part', [
    (('--dump_step=1',), {}, '--dump_step has no effect without --enable_dump'),
    (('--npu_option=hccl_timeout=long',), {}, 'must have an integer as its value'),
    ((), {'RANK_SIZE': '8'}, 'RANK_TABLE_FILE must be set for a job of 8 NPUs'),
    ((), {'DEVICE_ID': '-1'}, 'DEVICE_ID=-1 must be an integer'),
])
def test_mistakes_get_one_sentence(place, flags, variables, part):
    exit_code, log = place.on_npu('no', *flags, **variables)
    assert exit_code == 1
    assert log.startswith('error: ')
    assert part in log
    assert log.count('\n') == 1


STAND_IN = """#!/usr/bin/env bash
for name in RANK_SIZE RANK_ID JOB_ID ASCEND_DEVICE_ID DEVICE_ID; do echo "$name=${!name}"; done
printf '%s\\n' "$@"
"""


@pytest.mark.parametrize('variables, device', [
    ({}, ['ASCEND_DEVICE_ID=0', 'DEVICE_ID=0']),
    ({'DEVICE_ID': '3'}, ['ASCEND_DEVICE_ID=3', 'DEVICE_ID=3']),
    ({'ASCEND_DEVICE_ID': '2'}, ['ASCEND_DEVICE_ID=2', 'DEVICE_ID=2']),
    ({'ASCEND_DEVICE_ID': '0', 'DEVICE_ID': '5'}, ['ASCEND_DEVICE_ID=0', 'DEVICE_ID=5']),
])
def test_the_script_gives_the_published_command(project_root, tmp_path, variables, device):
    stand_in = tmp_path / 'python'
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    exit_code, log = run(['bash', str(project_root / 'train_npu.sh'), '--restore'],
                         {'PYTHON': str(stand_in), **variables}, tmp_path)
    assert exit_code == 0
    lines = log.splitlines()
    assert lines[:5] == ['RANK_SIZE=1', 'RANK_ID=0', 'JOB_ID=10087', *device]
    here = str(project_root)
    assert lines[5:] == [
        here + '/npu_train.py', '--input_size=512', '--learning_rate=0.0001',
        '--batch_size_per_gpu=14', '--num_readers=16', f'--checkpoint_path={here}/checkpoint/',
        f'--training_data_path={here}/ocr/icdar2015/',
        f'--pretrained_model_path={here}/pretrain_model/resnet_v1_50.ckpt', '--restore']
