"""tools.demo_server as a person runs it, with a real network of random weights."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.inference.tiny_models import write_onnx
from tests.tools.conftest import TARGET
from tests.tools.serving.stand_in import encoded, fetch
from tools.phases import demo_server
from utils.errors import PSENetError

pytest.importorskip('flask', reason='Flask is not installed; run make setup-tools')


def command(root, *arguments):
    return [sys.executable, '-m', 'tools.demo_server', '--port=0', *arguments]


@pytest.fixture(scope='module')
def onnx_flags(tmp_path_factory):
    """A model that starts in no time."""
    pytest.importorskip('onnx', reason='onnx is not installed; run make setup-tools')
    path = write_onnx(str(tmp_path_factory.mktemp('model') / 'tiny.onnx'))
    return {'engine': 'onnx', 'model': path}


@pytest.fixture(scope='module')
def onnx(onnx_flags):
    return [f'--{name}={value}' for name, value in onnx_flags.items()]


@pytest.fixture(scope='module')
def running(place):
    """The process and the port that it printed; it is ended by SIGTERM in the end."""
    flags = [f'--{name}={value}' for name, value in TARGET.items()]
    with subprocess.Popen(command(place.root, '--gpu_list=', *flags, f'--samples={place.images}',
                                  f'--checkpoint_path={place.checkpoint}'), env=place.environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.endswith(' is ready; Ctrl-C stops it\n'), process.stderr.read()
        yield process, int(line.split('/')[2].split(':')[1])
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=60)[1]
    assert process.returncode == 143, log
    assert 'boxes in an image of 128x96 pixels' in log
    assert 'Traceback' not in log


def ask(running, path, data=None):
    status, _, body = fetch(running[1], path, data)
    assert status == 200, body
    return body


def test_it_finds_what_eval_finds(place, running):
    for path in sorted(place.images.iterdir()):
        told = json.loads(ask(running, '/detect', path.read_bytes()).decode())
        expected = (place.directory / 'truth' / f'res_{path.stem}.txt').read_bytes()
        assert ask(running, f'/detections/{told["id"]}/result.txt') == expected
        assert len(told['boxes']) == expected.count(b'\r\n')
        assert told['seconds']['network'] > 0
    assert any((place.directory / 'truth').glob('res_*.txt'))


def test_it_says_what_it_serves_and_keeps(running):
    health = json.loads(ask(running, '/health').decode())
    assert health['model'] == 'model.ckpt-1'
    assert b'img_1.png' in ask(running, '/')


def test_other_programs_can_run_it(onnx_flags):
    with demo_server(**onnx_flags) as url:
        port = int(url.split(':')[2].rstrip('/'))
        assert json.loads(fetch(port, '/health')[2].decode())['model'] == 'tiny.onnx'
    with pytest.raises(ConnectionError):
        fetch(port, '/health')
    with pytest.raises(PSENetError, match='did not start'), demo_server(model='none.onnx'):
        pass


def test_a_port_in_use_is_said(project_root, onnx, running):
    result = run(project_root, *onnx, f'--port={running[1]}')
    assert_refused(result, f'--port={running[1]} (Address already in use)')


def run(root, *arguments):
    return subprocess.run(command(root, *arguments), capture_output=True, text=True, check=False)


def assert_refused(result, *words):
    assert result.returncode == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert result.stderr.startswith('error: ')
    assert result.stderr.count('\n') == 1


def test_ctrl_c_ends_it_and_another_host_is_warned_of(project_root, onnx):
    with subprocess.Popen(command(project_root, *onnx, '--host=0.0.0.0'), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith('http://0.0.0.0:')
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert '--host=0.0.0.0: anyone who can reach this address' in log
    assert 'Traceback' not in log


SLOW = """
import sys, time
from inference.config import DetectConfig
from inference.networks import ScoreNetwork
from tools import demo_server
from tools.serving.options import ServeOptions

class Slow(ScoreNetwork):
    def score_maps(self, image_rgb):
        print('at work', flush=True)
        time.sleep(500)

    def close(self):
        pass

demo_server._GRACE_SECONDS = 0.1
demo_server.open_network = lambda *_: Slow()
sys.exit(demo_server.serve(DetectConfig(model='slow'), ServeOptions(port=0)))
"""


def test_a_network_at_work_holds_up_the_end_for_seconds_at_most(project_root):
    with subprocess.Popen([sys.executable, '-c', SLOW], cwd=str(project_root), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        port = int(process.stdout.readline().split('/')[2].split(':')[1])
        with socket.create_connection(('127.0.0.1', port)) as client:
            data = encoded()
            client.sendall(b'POST /detect HTTP/1.0\r\nHost: localhost\r\n'
                           b'Content-Length: %d\r\n\r\n' % len(data) + data)
            assert process.stdout.readline() == 'at work\n'
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert 'Traceback' not in log


@pytest.mark.parametrize('argument, word', [
    ('--port=70000', '--port=70000'), ('--queue_size=-1', '--queue_size'),
    ('--max_upload_mb=0', '--max_upload_mb=0'), ('--host=', '--host is empty'),
    ('--model=none.onnx', 'none.onnx'), ('--samples=none', 'none'),
    ('--seg_map_thresh=1', '--seg_map_thresh')])
def test_a_mistake_is_one_sentence(project_root, onnx, argument, word):
    assert_refused(run(project_root, *onnx, argument), word)


def test_without_flask_a_sentence_says_how_to_get_it(project_root, onnx, tmp_path):
    (tmp_path / 'flask.py').write_text('raise ModuleNotFoundError(name="flask")')
    result = subprocess.run(command(project_root, *onnx), capture_output=True, text=True,
                            check=False, env={'PYTHONPATH': str(tmp_path)})
    assert_refused(result, 'needs the package flask', 'run make setup-tools')
