"""The model zoo's entry points: arguments, output directory, files and closing lines."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tools.demo_data import DatasetSpec, ensure_dataset

PATIENCE_SECONDS = 480
OF_THE_JOB = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'ASCEND_DEVICE_ID', 'DEVICE_ID', 'JOB_ID',
              'DEVICES', 'FIRST_RANK', 'RANK_OUTPUT', 'PYTHONPATH')
# Stands for the interpreter, but for the launcher itself: its arguments and a log, then STAND_IN.
STAND_IN = """#!/usr/bin/env bash
case "$*" in "-m tools.launch_npu"*) exec %s "$@" ;; esac
printf '%%s\\n' "$RANK_SIZE $RANK_ID ${RANK_TABLE_FILE:-no table}" "$@" >"$ARGUMENTS.$RANK_ID"
echo 'I see dataset] Step by step, and, commas'
for step in 10 20; do
  echo "2021-02-20 00:00:00 INFO] Step 0000$step, model loss 0.6196, total loss 0.89$step, 1.2 \
seconds/step, 9 examples/second"
done
eval "${STAND_IN:-}"
echo 'Final Train Accuracy 0.8920'
echo 'E2E Training Duration sec 24.00'
echo 'avg time per step 1.2000'
echo 'FPS 93.33'
"""


class Zoo:
    """A project directory whose scripts are the real ones, with test/ linked as the README says."""

    def __init__(self, root, directory):
        self.directory = directory
        self.project = directory / 'project'
        shutil.copytree(str(root / 'tools' / 'modelzoo'), str(self.project / 'tools' / 'modelzoo'),
                        ignore=shutil.ignore_patterns('output'))
        for source in (root, root / 'tools'):
            for path in source.iterdir():
                place = self.project / path.relative_to(root)
                if path.name not in ('tools', 'modelzoo', 'rank_table_8p.json'):
                    place.symlink_to(path)
        (self.project / 'test').symlink_to('tools/modelzoo')
        self.output = self.project / 'test' / 'output' / '0'
        self.stand_in = directory / 'python'
        self.stand_in.write_text(STAND_IN % sys.executable)
        self.stand_in.chmod(0o755)
        (directory / 'data').mkdir()

    def run(self, script, *arguments, **variables):
        """Runs a script from inside test/: (exit code, stdout, stderr)."""
        kept = {name: value for name, value in os.environ.items() if name not in OF_THE_JOB}
        done = subprocess.run(
            ['bash', script, *arguments], cwd=str(self.project / 'test'), check=False,
            # PWD is what `cd test` makes of it.
            env={**kept, 'PWD': str(self.project / 'test'), 'PYTHON': str(self.stand_in),
                 'ARGUMENTS': str(self.directory / 'arguments'), **variables},
            capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode, done.stdout, done.stderr

    def train(self, script, *arguments, **variables):
        """Runs a script on the data directory, which has to go well; its stdout."""
        exit_code, output, errors = self.run(script, '--data_path=../../data', *arguments,
                                             **variables)
        assert exit_code == 0, errors
        return output

    def arguments(self, rank=0):
        """What the interpreter got: the job's variables, then the arguments."""
        return (self.directory / (f'arguments.{rank}')).read_text().splitlines()

    def write_table(self):
        devices = [{'device_id': str(rank), 'device_ip': f'10.0.0.{rank}', 'rank_id': str(rank)}
                   for rank in range(8)]
        (self.project / 'rank_table_8p.json').write_text(json.dumps({
            'version': '1.0', 'status': 'completed', 'server_count': '1',
            'server_list': [{'server_id': 'here', 'device': devices}]}))


@pytest.fixture
def zoo(project_root, tmp_path):
    return Zoo(project_root, tmp_path)


def values_of(path):
    """The ``name = value`` lines of a results file, in order."""
    return dict(line.split(' = ') for line in path.read_text().splitlines())


def closing_lines(output):
    """The printed results: [name, value]."""
    results = output.split('------------------ Final result ------------------\n')[1]
    return [line.split(' : ') for line in results.splitlines()]


def test_the_full_run_on_one_device(zoo):
    output = zoo.train('train_full_1p.sh', RANK_TABLE_FILE='left_over.json')
    (fps, fps_value), (accuracy, loss), (duration, seconds) = closing_lines(output)
    assert [fps, accuracy, duration] == [
        'Final Performance images/sec', 'Final Train Accuracy', 'E2E Training Duration sec']
    assert (fps_value, loss) == ('93.33', '0.8920')
    assert seconds.isdigit()
    case = 'PSENet_for_TensorFlow_bs14_1p_acc'
    assert values_of(zoo.output / (case + '.log')) == {
        'Network': 'PSENet_for_TensorFlow', 'RankSize': '1', 'BatchSize': '14',
        'DeviceType': os.uname().machine, 'CaseName': case, 'ActualFPS': '93.33',
        'TrainingTime': '1.2000', 'TrainAccuracy': '0.8920', 'ActualLoss': '0.8920',
        'E2ETrainingTime': seconds}
    assert (zoo.output / (f'train_{case}_loss.txt')).read_text() == '0.8910\n0.8920\n'
    job, script, *arguments = zoo.arguments()
    assert job == '1 0 no table'
    assert script.endswith('/npu_train.py')
    ckpt = zoo.project / 'tools' / 'modelzoo' / 'output' / '0' / 'ckpt'
    assert arguments[-3:] == [f'--training_data_path={zoo.directory}/data',
                              f'--checkpoint_path={ckpt}', '--max_steps=100000']


def test_the_performance_run_names_its_case_and_has_no_accuracy_in_its_file(zoo):
    zoo.train('train_performance_1p.sh', '--batch_size_per_gpu=2', ASCEND_DEVICE_ID='5')
    case = 'PSENet_for_TensorFlow_bs2_1p_perf'
    values = values_of(zoo.output.parent / '5' / (case + '.log'))
    assert (values['CaseName'], values['BatchSize']) == (case, '2')
    assert 'TrainAccuracy' not in values
    assert zoo.arguments()[-2:] == ['--max_steps=400', '--batch_size_per_gpu=2']


@pytest.mark.parametrize('script, case, steps', [
    ('train_full_8p.sh', 'PSENet_for_TensorFlow_bs14_8p_acc', '--max_steps=100000'),
    ('train_performance_8p.sh', 'PSENet_for_TensorFlow_bs14_8p_perf', '--max_steps=400')])
def test_eight_devices(zoo, script, case, steps):
    zoo.write_table()
    output = zoo.train(script)
    values = values_of(zoo.output / (case + '.log'))
    # Python's figure is that of all ranks.
    assert closing_lines(output)[0][1] == values['ActualFPS'] == '93.33'
    assert (values['RankSize'], values['CaseName']) == ('8', case)
    for rank in range(8):
        job, *arguments = zoo.arguments(rank)
        assert job == f"8 {rank} {zoo.project / 'rank_table_8p.json'}"
        assert steps in arguments
        log = zoo.output.parent / str(rank) / (f'train_{rank}.log')
        assert 'FPS 93.33' in log.read_text().splitlines()


def test_eight_devices_need_a_table(zoo):
    exit_code, output, errors = zoo.run('train_full_8p.sh', '--data_path=../../data')
    assert exit_code == 1
    assert 'make one with tools.make_rank_table' in errors
    assert 'Final' not in output


@pytest.mark.parametrize('script', ['train_full_1p.sh', 'train_performance_1p.sh',
                                    'train_full_8p.sh', 'train_performance_8p.sh'])
def test_the_data_path_is_demanded_in_the_words_of_the_zoo(zoo, script):
    exit_code, output, _ = zoo.run(script)
    assert (exit_code, output) == (1, '[Error] para "data_path" must be confing\n')
    assert zoo.run(script, '--data_path=')[0] == 1
    for help_argument in ('-h', '--help'):
        exit_code, output, _ = zoo.run(script, help_argument)
        assert exit_code == 0
        assert output.startswith(f'usage: bash {script} --data_path=<dir>')


@pytest.mark.parametrize('given, flags', [
    (['--precision_mode=allow_mix_precision'], ['--precision_mode=allow_mix_precision']),
    (['--over_dump=True'], ['--enable_dump_debug', '--dump_path={}/overflow_dump']),
    (['--data_dump_flag=True', '--data_dump_step=3'],
     ['--enable_dump', '--dump_path={}/data_dump', '--dump_step=3']),
    (['--autotune=True'], ['--auto_tune_mode=RL,GA']),
    (['--over_dump=False', '--data_dump_flag=False', '--profiling=False', '--autotune=False'], []),
])
def test_switches_become_flags(zoo, given, flags):
    zoo.train('train_performance_1p.sh', f'--data_save_path={zoo.directory}', *given)
    arguments = zoo.arguments()
    found = arguments[arguments.index('--max_steps=400') + 1:]
    assert found == [flag.format(zoo.directory) for flag in flags]
    for flag in found:
        assert not flag.startswith('--dump_path') or os.path.isdir(flag.split('=')[1])


def test_profiles_go_into_the_output_folder(zoo):
    zoo.train('train_performance_1p.sh', '--profiling=True')
    mode, options = zoo.arguments()[-2:]
    assert mode == '--profiling_mode'
    directory = json.loads(options.split('=', 1)[1])['output']
    assert os.path.samefile(directory, str(zoo.output / 'profiling'))


def test_both_dumps_at_once_are_refused(zoo):
    exit_code, _, errors = zoo.run('train_full_1p.sh', '--data_path=.', '--over_dump=True',
                                   '--data_dump_flag=True')
    assert exit_code == 1
    assert errors == ('error: --over_dump and --data_dump_flag cannot both be True; run once with '
                      'each\n')


@pytest.mark.parametrize('directories, given, flags', [
    (['ocr/icdar2015'], [], ['--training_data_path={}/ocr/icdar2015']),
    (['icdar2015'], ['--ckpt_path=../../data/a.ckpt'],
     ['--training_data_path={}/icdar2015', '--pretrained_model_path={}/a.ckpt']),
    (['pretrain_model/resnet_v1_50.ckpt'], [],
     ['--training_data_path={}', '--pretrained_model_path={}/pretrain_model/resnet_v1_50.ckpt']),
    ([], ['--ckpt_path=../../data'],
     ['--training_data_path={}', '--pretrained_model_path={}/resnet_v1_50.ckpt']),
    ([], ['--ckpt_path=/none/a.ckpt'],
     ['--training_data_path={}', '--pretrained_model_path=/none/a.ckpt']),
])
def test_where_the_data_and_the_backbone_are(zoo, directories, given, flags):
    for name in directories:
        (zoo.directory / 'data' / name).mkdir(parents=True)
    zoo.train('train_full_1p.sh', *given)
    arguments = zoo.arguments()
    # Those of train_npu.sh come first.
    start = len(arguments) - len(flags) - 2
    assert arguments[start:-2] == [flag.format(zoo.directory / 'data') for flag in flags]
    assert arguments[-2].startswith('--checkpoint_path=')


def test_each_run_starts_with_an_empty_folder(zoo):
    zoo.train('train_full_1p.sh')
    (zoo.output / 'ckpt' / 'model.ckpt-7.index').write_text('')
    zoo.train('train_performance_1p.sh')
    assert sorted(path.name for path in zoo.output.iterdir()) == [
        'PSENet_for_TensorFlow_bs14_1p_perf.log', 'ckpt', 'train_0.log',
        'train_PSENet_for_TensorFlow_bs14_1p_perf_loss.txt']
    assert not list((zoo.output / 'ckpt').iterdir())


def test_a_device_that_is_no_number_empties_nothing(zoo):
    exit_code, _, errors = zoo.run('train_full_1p.sh', '--data_path=.', ASCEND_DEVICE_ID='..')
    assert (exit_code, errors) == (1, 'error: the device .. must be a number\n')
    assert (zoo.project / 'test' / 'common.sh').exists()


def test_a_run_that_fails_has_no_results(zoo):
    exit_code, output, errors = zoo.run('train_full_1p.sh', '--data_path=../../data',
                                        STAND_IN='echo "error: no disk"; exit 7')
    assert exit_code == 7
    assert errors.splitlines()[-1] == 'error: no disk'
    assert 'Final' not in output


def test_a_signal_reaches_training(zoo):
    exit_code, _, _ = zoo.run(
        'train_full_1p.sh', '--data_path=../../data',
        STAND_IN='trap "exit 143" TERM; kill -TERM $PPID; sleep 1000 & wait; exit 1')
    assert exit_code == 143


def test_a_real_run(zoo, project_root):
    ensure_dataset(str(zoo.directory / 'set'), DatasetSpec(train_images=8, test_images=2, size=96))
    try:
        exit_code, output, errors = zoo.run(
            'train_performance_1p.sh', '--data_path=../../set/train', '--max_steps=10',
            '--input_size=64', '--batch_size_per_gpu=1', '--num_readers=2', '--seed=3',
            '--pretrained_model_path=', PYTHON=sys.executable,
            PYTHONPATH=str(project_root / 'tests' / 'fakes'))
        assert exit_code == 0, errors
        assert (zoo.output / 'ckpt' / 'model.ckpt-10.index').exists()
    finally:
        for path in zoo.output.glob('ckpt/model.ckpt-*'):  # 454 MB, and pytest keeps directories
            path.unlink()
    case = 'PSENet_for_TensorFlow_bs1_1p_perf'
    values = values_of(zoo.output / (case + '.log'))
    loss, = (zoo.output / (f'train_{case}_loss.txt')).read_text().split()
    assert values['ActualLoss'] == loss == closing_lines(output)[1][1]
    assert 0 < float(loss) < 5
    per_step, per_second = float(values['TrainingTime']), float(values['ActualFPS'])
    assert per_second == pytest.approx(1 / per_step, abs=0.006, rel=0.01)
