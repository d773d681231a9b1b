"""What a person sees of train.py and of a small script: help, mistakes, errors, Ctrl-C."""

import os
import re
import subprocess
import sys

import pytest
from absl import flags

from utils import cli

# Flag -> default as the help shows it: the published ones, then the project's own.
TRAIN_FLAGS = {
    'input_size': '512', 'batch_size_per_gpu': '8', 'num_readers': '32', 'learning_rate': '1e-05',
    'max_steps': '100000', 'moving_average_decay': '0.997', 'gpu_list': "'0'",
    'checkpoint_path': "'./resnet_train/'", 'restore': 'false', 'save_checkpoint_steps': '1000',
    'save_summary_steps': '100', 'pretrained_model_path': 'none',
    'training_data_path': "'./ocr/icdar2015/'", 'dataset': "'auto'", 'label_path': "''",
    'max_image_large_side': '1280',
    'max_text_size': '800', 'min_text_area_size': '10', 'min_crop_side_ratio': '0.1',
    'batch_norm_decay': '0.997', 'overwrite': 'false', 'keep_checkpoints': '5', 'seed': 'none',
    'cache_images_mb': '0', 'scale_learning_rate': 'false', 'distributed': "''",
    'max_image_pixels': '178956970', 'apply_exif_orientation': 'false', 'recipe': "'reference'",
    'crop': "'stretched'", 'crop_scales': "'0.7,2.3'", 'flip': 'false', 'max_rotation': '0.0',
    'colour_jitter': 'false', 'soft_labels': 'false', 'backbone': "'resnet_v1_50'",
    'loss': "'reference'", 'optimizer': "'adam'", 'backbone_rate': '1.0',
    'schedule': "'exponential'", 'warmup_steps': '0', 'clip_norm': '0.0',
    'pretrained_statistics': 'false', 'measured_batches': '0',
}
SCRIPT = '''"""Counts.

Usage: count.py --number=3
"""
import os
import signal
import sys
import tempfile

from absl import flags

from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger


class NoMore(PSENetError):
    exit_code = 3


def main(argv):
    logger.info('begins')
    what = flags.FLAGS.what
    if what == 'mistake':
        raise PSENetError('data.txt:3 holds no number; write one')
    if what == 'no more':
        raise NoMore('enough')
    if what == 'defect':
        raise ValueError('a defect')
    if what == 'temporary':
        tempfile._candidate_tempdir_list = lambda: ['/proc/none', '/proc/nothing']
        tempfile.gettempdir()
    if what == 'interrupt':
        os.kill(os.getpid(), signal.SIGINT)
    print(flags.FLAGS.number, len(argv), 'tensorflow' in sys.modules)
    return {'nothing': None, 'four': 4}.get(what, 0)


if __name__ == '__main__':
    flags.DEFINE_integer('number', 7, 'How many.', **cli.group('counting'))
    flags.DEFINE_string('what', 'nothing', 'What happens.', **cli.group('the rest'))
    cli.run(main, __doc__)
'''


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    """Path of a script that uses cli as the entry scripts do."""
    path = tmp_path_factory.mktemp('script') / 'count.py'
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture
def run(project_root):
    """run(script, argument, ...) -> the finished process, its output as text."""
    def run_script(*command, **options):
        return subprocess.run(
            [sys.executable, *command], cwd=str(project_root), text=True,
            env={**os.environ, 'PYTHONPATH': str(project_root)}, check=False,
            **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options})
    return run_script


@pytest.fixture(scope='module')
def train_help(project_root):
    """What train.py --help prints."""
    return subprocess.run([sys.executable, 'train.py', '--help'], cwd=str(project_root), check=True,
                          text=True, stdout=subprocess.PIPE).stdout


def flag_helps(text):
    """{flag: help with its default}, one line each, from the text of --help."""
    blocks = re.split(r'^  --', text, flags=re.M)[1:]
    parts = [block.split('\n\n')[0].split('\n', 1) for block in blocks]
    return {head.split('=')[0]: ' '.join(body.split()) for head, body in parts}


def test_help_begins_with_what_the_script_does(train_help):
    assert train_help.startswith('Trains PSENet')
    assert 'python train.py' in train_help


def test_help_groups_the_flags(train_help):
    titles = re.findall(r'^\n(\w.*):$', train_help, flags=re.M)
    assert titles == ['Device', 'Data', 'Optimisation', 'Checkpoints and logs']


def test_no_place_for_temporary_files_is_one_sentence(run, script):
    done = run(script, '--what=temporary')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: no directory for temporary files is writable ('/proc/none', '/proc/nothing'); "
        'set TMPDIR to one that is')
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(('given', 'expected'), [
    ('~/ck', '/somewhere/ck'), ('./~/ck', './~/ck'), ('/a', '/a'), ('', '')])
def test_a_path_may_begin_with_the_home_directory(monkeypatch, given, expected):
    monkeypatch.setenv('HOME', '/somewhere')
    monkeypatch.setattr(flags, 'FLAGS', flags.FlagValues())
    cli.define_path('place', './here', 'Where.', flag_values=flags.FLAGS)
    assert flags.FLAGS['place'].default == './here'
    flags.FLAGS(['script', f'--place={given}'])
    assert flags.FLAGS.place == expected


def test_every_flag_of_a_path_of_training_is_one(train_help):
    for name in ('training_data_path', 'pretrained_model_path', 'checkpoint_path'):
        assert f'--{name}=path' in train_help


def test_help_shows_every_flag_of_ours_and_none_of_absl(train_help):
    assert set(flag_helps(train_help)) == set(TRAIN_FLAGS)


@pytest.mark.parametrize('flag', sorted(TRAIN_FLAGS))
def test_help_of_a_flag_is_a_sentence_with_the_default(train_help, flag):
    sentence, default = re.match(r'(.*) \(default: (.*)\)$', flag_helps(train_help)[flag]).groups()
    assert default == TRAIN_FLAGS[flag]
    assert len(sentence.split()) >= 5
    assert re.match(r'(<.*>: )?[A-Z].*\.$', sentence)


@pytest.mark.parametrize('flag', ['max_image_large_side', 'max_text_size', 'min_text_area_size'])
def test_help_says_which_flags_are_not_used(train_help, flag):
    assert 'not used' in flag_helps(train_help)[flag]


def test_help_fits_the_screen(train_help):
    assert max(map(len, train_help.splitlines())) <= 100


@pytest.mark.parametrize('argument', ['-h', '-?', '-help', '--help', '--helpshort', '--helpfull'])
def test_every_way_to_ask_for_help(run, script, argument):
    done = run(script, '--number=no', argument)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == (
        'Counts.\n\nUsage: count.py --number=3\n\n'
        'Counting:\n  --number=int\n      How many. (default: 7)\n\n'
        "The rest:\n  --what=string\n      What happens. (default: 'nothing')\n")


def test_help_into_a_closed_pipe_is_no_error(run):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed_pipe:
        done = run('train.py', '--help', stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('arguments, sentence', [
    (['--maxsteps=3'], r"Unknown command line flag 'maxsteps'.*\(train\.py --help lists the flags"),
    (['--max_steps=many'], r'flag --max_steps=many: .*\(train\.py --help lists the flags'),
    (['--max_steps'], r'Missing value for flag --max_steps'),
    (['--restore=perhaps'], r'flag --restore=perhaps: '),
    (['ocr/icdar2015'], r"'ocr/icdar2015' is not a flag; .*--flag=value"),
    (['--restore', 'False'], r"'False' is not a flag"),
    (['--training_data_path=/nowhere'], r'--training_data_path=/nowhere is not a directory'),
    (['--training_data_path=tests', '--restore', '--overwrite'], r'--restore .*--overwrite'),
    (['--training_data_path=tests', '--input_size=100'], r'--input_size=100 must be a multiple'),
    (['--training_data_path=tests', '--gpu_list=cpu'], r'--gpu_list=cpu must be GPU numbers'),
])
def test_a_mistake_costs_one_line(run, arguments, sentence):
    done = run('train.py', *arguments)
    assert done.returncode == 1
    assert done.stdout == ''
    assert re.match(rf'error: [^\n]*{sentence}[^\n]*\n\Z', done.stderr), done.stderr


@pytest.mark.parametrize('flag', ['--jit_compile=auto', '--mix_compile_mode'])
def test_a_flag_that_is_gone_says_what_to_give(run, flag):
    done = run('eval.py', flag)
    assert done.returncode == 1
    name = flag.partition('=')[0]
    assert done.stderr == f'error: {name} no longer exists; use --npu_option={name[2:]}=<value>\n'


@pytest.mark.parametrize('what, exit_code', [('nothing', 0), ('zero', 0), ('four', 4)])
def test_the_exit_code_is_what_main_returns(run, script, what, exit_code):
    done = run(script, f'--what={what}', '--number=3')
    assert done.returncode == exit_code
    assert done.stdout == '3 1 False\n'
    assert re.match(r'[-\d]+ [:\d]+ INFO\] begins\n\Z', done.stderr)


@pytest.mark.parametrize('what, exit_code, sentence', [
    ('mistake', 1, 'error: data.txt:3 holds no number; write one'), ('no more', 3, 'error: enough'),
    ('interrupt', 130, 'error: interrupted'),
])
def test_an_error_is_a_sentence_and_an_exit_code(run, script, what, exit_code, sentence):
    done = run(script, f'--what={what}')
    assert done.returncode == exit_code
    assert done.stderr.splitlines()[1:] == [sentence]


def test_a_defect_keeps_its_traceback(run, script):
    done = run(script, '--what=defect')
    assert done.returncode == 1
    assert 'Traceback' in done.stderr
    assert done.stderr.endswith('ValueError: a defect\n')


def test_text_with_a_file_name_of_any_bytes_is_printed(capsys):
    cli.print_text('\u4e2d \udcd6.jpg')
    assert capsys.readouterr().out == '\u4e2d \\udcd6.jpg\n'
