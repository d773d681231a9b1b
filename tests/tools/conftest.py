"""A detector of random weights with images and ground truth, for commands that score."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from inference.config import DetectConfig
from inference.detector import Detector
from inference.folder import detect_folder, images_by_stem
from inference.networks import Network
from utils.image_io import write_image

# Finds boxes with random weights.
TARGET = {'seg_map_thresh': 0.6, 'min_area_thresh': 2}


class Place:
    """A checkpoint of random weights, images, and ground truth that it finds at TARGET."""

    def __init__(self, root, directory):
        # TensorFlow comes with them; make test-detect has none.
        from tests.reference_rule import write_rule_checkpoint
        from tests.small_network.sitecustomize import PYTHONPATH, small_network

        self.root = root
        self.directory = directory
        self.images, self.gt = directory / 'images', directory / 'gt.zip'
        self.environment = dict(os.environ, PYTHONPATH=PYTHONPATH)
        with small_network():
            self.prefix = write_rule_checkpoint(str(directory / 'checkpoint'))
        self.checkpoint = pathlib.Path(self.prefix).parent
        self.images.mkdir()
        for number in (1, 2, 3):
            pixels = np.random.RandomState(number).randint(0, 256, (64 + 32 * number, 128, 3))
            write_image(str(self.images / f'img_{number}.png'), pixels.astype(np.uint8))
        self._write_ground_truth(directory / 'truth')

    def _write_ground_truth(self, output):
        from tests.small_network.sitecustomize import small_network

        output.mkdir()
        with small_network(), Detector(Network(self.prefix), DetectConfig(**TARGET)) as detector:
            detect_folder(detector, images_by_stem(str(self.images)), str(output), False)
        with zipfile.ZipFile(str(self.gt), 'w') as archive:
            for path in sorted(output.glob('res_*.txt')):
                archive.writestr(path.name.replace('res_', 'gt_'), ''.join(
                    f'{line},word\r\n' for line in path.read_text().split()))

    def command(self, tool, *arguments):
        return [sys.executable, '-m', f'tools.{tool}', '--gpu_list=',
                f'--test_data_path={self.images}', f'--gt={self.gt}', *arguments]

    def run(self, tool, *arguments):
        """Runs a command of tools/ to its end."""
        return subprocess.run(self.command(tool, *arguments), capture_output=True, text=True,
                              check=False, env=self.environment)

    def evaluate(self, *arguments):
        """Runs eval.sh to its end."""
        return subprocess.run(
            ['bash', str(self.root / 'eval.sh'), '--no_write_images', *arguments],
            capture_output=True, text=True, check=False,
            env=dict(self.environment, PYTHON=sys.executable, test_data=str(self.images),
                     gt=str(self.gt), ckpt_dir=str(self.checkpoint),
                     output_dir=str(self.directory / 'output')))


@pytest.fixture(scope='package')
def place(project_root, tmp_path_factory):
    directory = tmp_path_factory.mktemp('place')
    yield Place(project_root, directory)
    shutil.rmtree(str(directory))  # the checkpoint takes 110 MB
