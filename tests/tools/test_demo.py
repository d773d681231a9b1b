"""The demo and that of the tools: their honesty, and short runs of the real scripts."""

import os
import subprocess
import sys

import pytest

from tests.small_network.sitecustomize import PYTHONPATH
from tools import demo, tools_demo
from tools.serving.screenshot import has_browser
from utils.errors import PSENetError


class TestVerdict:
    def test_reached(self):
        assert demo.verdict(demo.DEFAULT_STEPS, {'hmean': 0.80}).startswith('PASS')

    def test_missed_by_a_shortened_run_is_expected(self):
        assert 'as expected: 2 steps are too few' in demo.verdict(2, {'hmean': 0.1})

    def test_curved_words_need_a_gain_over_rectangles(self):
        steps = demo.DEFAULT_STEPS
        assert demo.verdict(steps, {'hmean': 0.7, 'gain': 0.1}).startswith('PASS')
        assert '0.10 above that of rectangles' in demo.verdict(steps, {'hmean': 0.9, 'gain': 0.05})

    def test_missed_by_a_full_run_is_not(self):
        line = demo.verdict(demo.DEFAULT_STEPS, {'hmean': 0.79})
        assert line.startswith('BELOW TARGET')
        assert 'expected' not in line


@pytest.mark.parametrize(('steps', 'given'), [('7', "--steps='7'"), ('', ''), (None, '')])
def test_the_variable_of_make_becomes_the_flag(project_root, steps, given):
    environment = {name: value for name, value in os.environ.items() if name != 'DEMO_STEPS'}
    if steps is not None:
        environment['DEMO_STEPS'] = steps
    printed = subprocess.run(['make', '-n', 'demo'], cwd=project_root, env=environment,
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    assert printed.rstrip().endswith(f'-m tools.demo {given}'.rstrip())


def test_too_few_steps_are_refused(project_root, tmp_path):
    exit_code, output = _run_demo(project_root, tmp_path, steps=0)
    assert exit_code == 1
    assert '--steps=0' in output
    assert not list(tmp_path.iterdir())


def _run_demo(project_root, directory, script='demo', steps=2, **variables):
    """Runs a demo on a handful of small images; returns its exit code and output."""
    command = [sys.executable, '-m', f'tools.{script}', f'--folder={directory}', f'--steps={steps}',
               '--train_images=8', '--test_images=3', '--size=128', '--input_size=64']
    ended = subprocess.run(command, env=dict(os.environ, **variables),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return ended.returncode, ended.stdout


@pytest.fixture(scope='module')
def short_run(project_root, tmp_path_factory):
    """The directory, exit code and output of a demo of two steps."""
    directory = tmp_path_factory.mktemp('demo')
    (directory / 'notes.txt').write_text('mine')
    return (directory, *_run_demo(project_root, directory))


def test_short_run_ends_well_and_says_that_it_is_short(short_run):
    _, exit_code, output = short_run
    assert exit_code == 0, output
    assert 'BELOW TARGET, as expected: 2 steps are too few' in output
    for phase in ('data', 'training', 'detection', 'scoring'):
        assert f'== {phase}: done in ' in output


def test_short_run_leaves_what_it_points_to(short_run):
    directory, _, output = short_run
    assert (directory / 'loss_curve.png').stat().st_size > 10000
    assert str(directory / 'loss_curve.png') in output
    for number in (1, 2, 3):
        assert (directory / 'output' / f'res_img_{number}.txt').is_file()
        assert (directory / 'output' / f'res_img_{number}.jpg').is_file()


def test_second_run_uses_the_data_again_and_trains_anew(project_root, short_run):
    directory = short_run[0]
    exit_code, output = _run_demo(project_root, directory, PYTHONPATH=PYTHONPATH)
    assert exit_code == 0, output
    assert 'exists already' in output
    assert (directory / 'notes.txt').read_text() == 'mine'


def test_failed_phase_fails_the_demo(project_root, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'holiday.jpg').write_bytes(b'')
    exit_code, output = _run_demo(project_root, tmp_path)
    assert exit_code == 1
    assert 'holiday.jpg' in output
    assert 'Traceback' not in output


def test_the_tools_run_on_what_the_demo_left(project_root, tmp_path):
    directory = tmp_path
    _run_demo(project_root, directory, PYTHONPATH=PYTHONPATH)
    before = (directory / 'run' / 'checkpoint').stat().st_mtime_ns
    exit_code, output = _run_demo(project_root, directory, 'tools_demo', PYTHONPATH=PYTHONPATH)
    assert exit_code == 0, output
    assert (directory / 'run' / 'checkpoint').stat().st_mtime_ns == before
    left = {str(path.relative_to(directory / 'tools')) for path in (directory / 'tools').rglob('*')}
    assert {'check_data.png', 'browse_dataset.png', 'loss_curve.png', 'compare_runs.png',
            'compare_runs.csv', 'sweep.png', 'sweep.csv', 'best/scores.png', 'models/psenet.pb',
            'models/psenet.onnx', 'models/model.json', 'onnx_output/res_img_1.txt'} <= left
    assert has_browser() == ('demo_server.png' in left)
    assert has_browser() != ('run make setup-browser' in output)


def test_a_tool_that_leaves_a_file_out_is_an_error(tmp_path):
    step = tools_demo.Step('mute', 'nothing', lambda: None, ['mute.png'])
    with pytest.raises(PSENetError, match=r'mute succeeded, but mute\.png is missing in'):
        tools_demo.run_steps([step], str(tmp_path))
