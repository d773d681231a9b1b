"""Where the cases' images and ground truth come from: real ones where they are, else the demo's."""

import contextlib
import os
import tempfile
from typing import Iterator, NamedTuple, Optional, Tuple

from tools.demo_synth.dataset import DatasetSpec, ensure_dataset
from utils.errors import PSENetError
from utils.image_io import read_image_size

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ICDAR = 'ICDAR2015'
ICDAR_FOLDER = os.path.join(os.path.dirname(ROOT), 'shared', 'data', 'icdar2015')
# As high as the network's input for ICDAR2015.
_DEMO = DatasetSpec(train_images=40, test_images=40, size=736)
_NAMES = ('train', 'test', 'gt.zip')


class Samples(NamedTuple):
    """Images in the official ICDAR2015 form, all of one size.

    Attributes:
        name: for people.
        train_dir: holds img_N.jpg and gt_img_N.txt.
        test_dir: holds img_N.jpg.
        gt_zip: ground truth, gt_img_N.txt, of the images in test_dir and maybe of more.
        image_size: (width, height).
    """

    name: str
    train_dir: str
    test_dir: str
    gt_zip: str
    image_size: Tuple[int, int]


@contextlib.contextmanager
def open_samples(folder: Optional[str] = None) -> Iterator[Samples]:
    """Finds the real samples, or draws some for as long as the context lasts.

    Args:
        folder: holds train, test and gt.zip in the form of ICDAR2015; where None, ICDAR_FOLDER if
            it does, else the demo's data are drawn.

    Yields:
        The samples.

    Raises:
        PSENetError: the given folder does not hold them.
    """
    if folder is not None:
        yield _samples(folder, folder)
    elif all(os.path.exists(os.path.join(ICDAR_FOLDER, name)) for name in _NAMES):
        yield _samples(ICDAR, ICDAR_FOLDER)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            ensure_dataset(temporary, _DEMO)
            yield _samples('the demo', temporary)


def _samples(name: str, folder: str) -> Samples:
    paths = [os.path.join(folder, each) for each in _NAMES]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise PSENetError(f'{missing[0]} does not exist; --samples is a folder with train, test '
                          'and gt.zip as ICDAR2015 has them')
    height, width = read_image_size(os.path.join(paths[1], 'img_1.jpg'))
    return Samples(name, *paths, (width, height))
