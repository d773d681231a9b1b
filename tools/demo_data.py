"""Draws a synthetic data set in the official ICDAR2015 format, with a manifest of its files.

    python -m tools.demo_data --out=demo/data --train_images=300 --test_images=60

    train/img_N.jpg train/gt_img_N.txt     training images and their labels
    test/img_N.jpg                         held-out images
    test_gt/gt_img_N.txt gt.zip            their labels, as files and as an archive for scoring
    demo_data.json                         manifest: the settings and the name of every file

The same flags and library versions give the same bytes. An existing data set is kept; one that is
incomplete, or was made with other flags, is replaced: the manifest is written first, marked as
incomplete, and again at the end. A directory with any other file is not written to.
"""

import hashlib
import json
import os
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from absl import flags

from evaluation.archive import write_archive
from tools.demo_scene import Word, draw_scene
from utils import cli
from utils.errors import PSENetError
from utils.files import replacing
from utils.image_io import write_image
from utils.utils_tool import logger

MANIFEST = 'demo_data.json'
MIN_SIZE = 96
_FOLDERS = ('train', 'test', 'test_gt')
_TRAIN, _TEST = 0, 1


class DatasetSpec(NamedTuple):
    """Settings of a data set; equal settings give equal files.

    ``size`` is the side of the square images in pixels.
    """

    train_images: int = 300
    test_images: int = 60
    size: int = 320
    seed: int = 0
    curved: bool = False


class DatasetError(PSENetError):
    """Invalid settings, or a directory that must not be written to."""


def ensure_dataset(directory: str, spec: DatasetSpec) -> bool:
    """Draws the data set unless the directory holds it already.

    Args:
        directory: for the output; created if missing. An earlier data set of this module is
            replaced.
        spec: settings of the data set.

    Returns:
        True if it was drawn, False if it existed.

    Raises:
        DatasetError: the settings are invalid, or the directory holds other files.
    """
    _check_spec(spec)
    manifest = {'complete': True, 'spec': dict(spec._asdict()), 'drawn_by': _source_digest(),
                'files': _file_names(spec)}
    if _read_manifest(directory) == manifest and all(
            os.path.isfile(os.path.join(directory, name)) for name in manifest['files']):
        return False
    _remove_own_files(directory)
    for name in _FOLDERS:
        os.makedirs(os.path.join(directory, name), exist_ok=True)
    _write_manifest(directory, dict(manifest, complete=False))
    _write_files(directory, spec)
    _write_manifest(directory, manifest)
    return True


def format_annotation(words: Sequence[Word]) -> str:
    """Formats regions as a ground-truth file: ``x1,y1,..,xn,yn,transcription``, one per line.

    Returns:
        Text with a byte order mark and CRLF line ends, as in the official files.
    """
    return '\ufeff' + ''.join(
        f'{",".join(map(str, word.polygon.ravel()))},{word.transcription}\r\n' for word in words)


def _check_spec(spec: DatasetSpec) -> None:
    if spec.size < MIN_SIZE:
        raise DatasetError(f'the size {spec.size} is too small: words need at least {MIN_SIZE} '
                           'pixels a side')
    if min(spec.train_images, spec.test_images) < 1:
        raise DatasetError(f'the numbers of images must be at least 1, not {spec.train_images} for '
                           f'training and {spec.test_images} for testing')
    if not 0 <= spec.seed < 2 ** 32:
        raise DatasetError(f'the seed {spec.seed} is not between 0 and 2**32 - 1')


def _source_digest() -> str:
    """Digest of the drawing code, so that data of an older version are replaced."""
    digest = hashlib.sha256()
    for name in ('demo_data.py', 'demo_scene.py'):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), 'rb') as source:
            digest.update(source.read())
    return digest.hexdigest()


def _file_names(spec: DatasetSpec) -> List[str]:
    """Lists the files of the data set except the manifest, relative to its directory."""
    names = ['gt.zip']
    for number in range(1, spec.train_images + 1):
        names += [f'train/img_{number}.jpg', f'train/gt_img_{number}.txt']
    for number in range(1, spec.test_images + 1):
        names += [f'test/img_{number}.jpg', f'test_gt/gt_img_{number}.txt']
    return names


def _read_manifest(directory: str) -> Dict:
    """Returns the directory's manifest; {} if it is missing or cannot be read."""
    try:
        with open(os.path.join(directory, MANIFEST), encoding='utf-8') as source:
            manifest = json.load(source)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(directory: str, manifest: Dict) -> None:
    with replacing(os.path.join(directory, MANIFEST)) as temporary, \
            open(temporary, 'w', encoding='utf-8') as target:
        json.dump(manifest, target, indent=1)


def _remove_own_files(directory: str) -> None:
    """Removes the files that the manifest lists; refuses if the directory holds any other."""
    own = set(_read_manifest(directory).get('files', ()))
    present = [os.path.relpath(os.path.join(parent, name), directory).replace(os.sep, '/')
               for parent, _, names in os.walk(directory) for name in names]
    # A killed process may have left a temporary manifest.
    own.update(name for name in present if name.startswith(f'.{MANIFEST}.'))
    foreign = sorted(set(present) - own - ({MANIFEST} if own else set()))
    if foreign:
        raise DatasetError(f'the directory {directory} contains {foreign[0]}, which is not part of '
                           'a data set of the demo; choose another directory or move that file '
                           'away')
    for name in present:
        if name in own:
            os.remove(os.path.join(directory, name))


def _write_files(directory: str, spec: DatasetSpec) -> None:
    for split, truth, stream, count in (('train', 'train', _TRAIN, spec.train_images),
                                        ('test', 'test_gt', _TEST, spec.test_images)):
        for index in range(count):
            # One random stream per image, so that it does not depend on the number of images.
            scene = draw_scene(np.random.RandomState([spec.seed, stream, index]), spec.size,
                               spec.curved)
            write_image(os.path.join(directory, split, f'img_{index + 1}.jpg'), scene.image)
            path = os.path.join(directory, truth, f'gt_img_{index + 1}.txt')
            with open(path, 'w', encoding='utf-8', newline='') as target:
                target.write(format_annotation(scene.words))
    entries = []
    for number in range(1, spec.test_images + 1):
        with open(os.path.join(directory, 'test_gt', f'gt_img_{number}.txt'), 'rb') as source:
            entries.append((f'gt_img_{number}.txt', source.read()))
    write_archive(os.path.join(directory, 'gt.zip'), entries)


def define_demo_data_flags() -> None:
    """Defines the flags of this command; their defaults are those of DatasetSpec."""
    group = cli.group('demo data')
    default = DatasetSpec()
    cli.define_path('out', './demo/data', 'Output directory; must be missing, empty, or hold an '
                    'earlier data set of this command, which is replaced.', **group)
    flags.DEFINE_integer('train_images', default.train_images, 'Images to train on.', **group)
    flags.DEFINE_integer('test_images', default.test_images, 'Held-out images.', **group)
    flags.DEFINE_integer('size', default.size, 'Side of the square images in pixels.', **group)
    flags.DEFINE_integer('seed', default.seed, 'Seed of all images.', **group)
    flags.DEFINE_boolean('curved', default.curved, 'Draw words along arcs, with polygons of 14 '
                         'points.', **group)


def main(_) -> None:
    """Draws the data set that the flags describe."""
    values = flags.FLAGS
    spec = DatasetSpec(values.train_images, values.test_images, values.size, values.seed,
                       values.curved)
    made = ensure_dataset(values.out, spec)
    logger.info('%s: %d training and %d test images %s', values.out, spec.train_images,
                spec.test_images, 'written' if made else 'exist already')


if __name__ == '__main__':
    define_demo_data_flags()
    cli.run(main, __doc__)
