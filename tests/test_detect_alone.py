"""Detection as a library and by its commands, with a model file and without TensorFlow."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inference.detector import open_detector
from utils.errors import PSENetError

onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed; run make '
                                                        'setup-tools or make setup-detect')
HAS_TENSORFLOW = importlib.util.find_spec('tensorflow') is not None
IMAGE = np.zeros((96, 160, 3), np.uint8)
IMAGE[32:64, 40:120] = 255


@pytest.fixture(scope='module')
def model(project_root):
    """A network that takes bright cells for text: the mean of 4x4 pixels, over 255."""
    path = project_root / 'tests' / 'data' / 'bright_cells.onnx'
    assert path.exists()
    return str(path)


def test_five_lines_find_text(model):
    with open_detector(model) as detector:
        result = detector.detect(IMAGE)
    assert result.polygons.tolist() == result.quads.tolist()
    assert np.sort(result.quads[0], axis=0).tolist() == [[40, 32], [40, 32], [119, 63], [119, 63]]
    assert result.scores.tolist() == [1.0]


def test_settings_are_those_of_the_flags(model):
    with open_detector(model, output_shape='polygon', min_region_area=3000) as detector:
        assert detector.detect(IMAGE).polygons == []
    with pytest.raises(PSENetError, match=r'--min_score=2 must lie in 0 .. 1'):
        open_detector(model, min_score=2)
    with pytest.raises(PSENetError, match=r'--model=none.onnx does not exist'):
        open_detector('none.onnx')


def test_several_threads_may_use_one_detector(model):
    images = [np.roll(IMAGE, 4 * shift, axis=1) for shift in range(12)]
    with open_detector(model) as detector, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector.detect, images))
        alone = [detector.detect(image) for image in images]
    for one, other in zip(found, alone):
        np.testing.assert_array_equal(one.quads, other.quads)


@pytest.mark.skipif(HAS_TENSORFLOW, reason='TensorFlow is installed')
@pytest.mark.parametrize('command', [
    ['train.py', '--training_data_path=.'],
    ['eval.py', '--test_data_path=.', '--checkpoint_path=.'],
    ['-m', 'tools.sweep', '--test_data_path=.', '--checkpoint_path=.', '--gt=gt'],
])
def test_what_needs_tensorflow_says_so(project_root, tmp_path, command):
    from utils.image_io import write_image

    write_image(str(tmp_path / 'img_1.png'), IMAGE)
    (tmp_path / 'gt_img_1.txt').write_text('40,32,119,32,119,63,40,63,word\n')
    (tmp_path / 'gt').mkdir()
    (tmp_path / 'gt' / 'gt_img_1.txt').write_text('40,32,119,32,119,63,40,63,word\n')
    if not command[0].startswith('-'):
        command = [str(project_root / command[0]), *command[1:]]
    ended = subprocess.run([sys.executable, *command], cwd=str(tmp_path), capture_output=True,
                           text=True, check=False)
    assert ended.returncode == 1
    assert 'this needs TensorFlow 1.15' in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_eval_sh_and_the_sweep_run_with_the_model(project_root, tmp_path, model):
    from utils.image_io import write_image

    for name in ('images', 'truth'):
        (tmp_path / name).mkdir()
    for number in (1, 2):
        write_image(str(tmp_path / 'images' / f'img_{number}.png'), IMAGE)
        (tmp_path / 'truth' / f'gt_img_{number}.txt').write_text('40,32,119,32,119,63,40,63,word\n')
    environment = dict(os.environ, PYTHON=sys.executable, output_dir=str(tmp_path / 'out'),
                       gt=str(tmp_path / 'gt.zip'), test_data=str(tmp_path / 'images'))
    commands = [
        [sys.executable, '-m', 'tools.make_gt_zip', f'--folder={tmp_path / "truth"}',
         f'--out={tmp_path / "gt.zip"}'],
        ['bash', str(project_root / 'eval.sh'), '--engine=onnx', f'--model={model}'],
        [sys.executable, '-m', 'tools.sweep', '--engine=onnx', f'--model={model}', '--gpu_list=',
         f'--test_data_path={tmp_path / "images"}', f'--gt={tmp_path / "truth"}', '--workers=1',
         '--seg_map_threshs=0.5,0.9', '--min_area_threshs=6', f'--output_dir={tmp_path / "sweep"}']]
    for command in commands:
        ended = subprocess.run(command, cwd=str(tmp_path), capture_output=True, text=True,
                               env=environment, check=False)
        assert ended.returncode == 0, ended.stderr
        if 'eval.sh' in command[1]:
            assert '"hmean": 1.0' in ended.stdout
    assert 'best: Hmean 1.0000' in ended.stderr
