"""boxes_from_maps: inputs out, maps in, and the very results of eval.py."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from utils.image_io import write_image

SIZE = '192x128'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two images with bright words; one fits the input, one has to be shrunk."""
    directory = tmp_path_factory.mktemp('images')
    for number, (height, width) in enumerate(((100, 180), (300, 200)), 1):
        image = np.zeros((height, width, 3), np.uint8)
        cv2.ellipse(image, (width // 2, height // 2), (60, 12), 10 * number, 0, 360, (255,) * 3, -1)
        write_image(str(directory / f'img_{number}.png'), image)
    return directory


def run(images, *arguments):
    return subprocess.run([sys.executable, '-m', 'tools.boxes_from_maps',
                           f'--test_data_path={images}', f'--input_size={SIZE}', *arguments],
                          capture_output=True, text=True, check=False)


def maps_of(path):
    """What the network of bright cells gives for an input file."""
    pixels = np.fromfile(str(path), '<f4').reshape(128, 192, 3)
    cells = pixels.reshape(32, 4, 48, 4, 3).mean(axis=(1, 3, 4)) / 255
    return np.repeat(cells[..., np.newaxis], 6, axis=2).astype(np.float32)


@pytest.mark.parametrize('options', [(), ('--output_shape=polygon', '--write_scores')])
@pytest.mark.parametrize(('name', 'save'), [
    ('{}_0.npy', np.save), ('{}_output_0.bin', lambda path, maps: maps.tofile(path))])
def test_results_are_those_of_eval(images, project_root, tmp_path, options, name, save):
    pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed; make setup-tools')
    written = run(images, f'--inputs_dir={tmp_path / "in"}', '--max_side_len=160')
    assert written.returncode == 0, written.stderr
    (tmp_path / 'maps').mkdir()
    for path in (tmp_path / 'in').iterdir():
        assert path.stat().st_size == 4 * 128 * 192 * 3
        save(str(tmp_path / 'maps' / name.format(path.stem)), maps_of(path)[np.newaxis])
    options = (*options, '--seg_map_thresh=0.5', '--max_side_len=160')
    found = run(images, f'--maps_dir={tmp_path / "maps"}', f'--output_dir={tmp_path / "a"}',
                *options)
    assert found.returncode == 0, found.stderr
    # The network of bright cells sees no further than a cell: what it is padded to is the same.
    ended = subprocess.run([
        sys.executable, str(project_root / 'eval.py'), '--engine=onnx',
        f'--model={project_root / "tests" / "data" / "bright_cells.onnx"}',
        f'--test_data_path={images}', f'--output_dir={tmp_path / "b"}', *options],
        capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    names = sorted(path.name for path in (tmp_path / 'b').iterdir())
    assert names == sorted(path.name for path in (tmp_path / 'a').iterdir())
    assert len(names) == 4
    # The taller image fits 160 pixels in both; the one size has room for no more than 128.
    assert (tmp_path / 'a' / 'res_img_1.txt').read_bytes() == (
        tmp_path / 'b' / 'res_img_1.txt').read_bytes() != b''
    assert (tmp_path / 'a' / 'res_img_2.txt').read_bytes() != b''


@pytest.mark.parametrize(('arguments', 'words'), [
    ((), 'give either --inputs_dir'),
    (('--inputs_dir=a', '--maps_dir=b'), 'give either --inputs_dir'),
    (('--maps_dir=none', '--output_dir=o'), 'has no img_1_0.bin'),
    (('--inputs_dir=a', '--input_size=100x100'), '--input_size=100x100 must be one size'),
    (('--inputs_dir=a', '--input_size=64x64,96x96'), 'must be one size'),
])
def test_a_mistake_is_one_sentence(images, tmp_path, arguments, words):
    ended = subprocess.run([sys.executable, '-m', 'tools.boxes_from_maps',
                            f'--test_data_path={images}', *arguments], cwd=str(tmp_path),
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_maps_of_another_size_are_named(images, tmp_path):
    np.zeros((32, 32, 6), np.float32).tofile(str(tmp_path / 'img_1_0.bin'))
    ended = run(images, f'--maps_dir={tmp_path}', f'--output_dir={tmp_path / "o"}')
    assert ended.returncode == 1
    assert 'img_1_0.bin holds 6144 numbers, and the score maps of an input of 192x128 are 9216' in (
        ended.stderr)
