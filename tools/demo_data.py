"""Writes a synthetic data set in the official ICDAR2015 form, with a manifest of its files.

    python -m tools.demo_data --out=demo/data --train_images=300 --test_images=60

    train/img_N.jpg train/gt_img_N.txt     training images with their regions
    test/img_N.jpg                         held-out images
    test_gt/gt_img_N.txt gt.zip            their regions, loose and as the scorer takes them
    demo_data.json                         the manifest: what was asked for and every file's name

The same flags and library versions give the same bytes. A data set that is there already is left
alone; one that was cut short, or was made with other flags, is made anew: the manifest is written
first, marked incomplete, and replaced at the end. A directory that holds anything else is never
written to.
"""

import hashlib
import json
import os
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from absl import flags

from evaluation.archive import write_archive
from tools.demo_scene import Word, draw_scene
from tools.make_gt_zip import make_gt_zip
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
    """What a data set is made from; equal specs give equal files.

    ``size`` is the side of the square pictures in pixels.
    """

    train_images: int = 300
    test_images: int = 60
    size: int = 320
    seed: int = 0
    curved: bool = False


class DatasetError(PSENetError):
    """A spec that cannot be drawn, or a folder that must not be written to."""


def ensure_dataset(folder: str, spec: DatasetSpec) -> bool:
    """Makes the data set unless the folder holds it already.

    Args:
        folder: where to write; is created, and may hold an earlier data set of this module, which
            is replaced.
        spec: what to draw.

    Returns:
        True when it was made, False when it was there.

    Raises:
        DatasetError: the spec cannot be drawn, or the folder holds files of somebody else.
    """
    _check_spec(spec)
    manifest = {'complete': True, 'spec': dict(spec._asdict()), 'drawn_by': _source_digest(),
                'files': _file_names(spec)}
    if _read_manifest(folder) == manifest and all(
            os.path.isfile(os.path.join(folder, name)) for name in manifest['files']):
        return False
    _remove_own_files(folder)
    for name in _FOLDERS:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    _write_manifest(folder, dict(manifest, complete=False))
    _write_files(folder, spec)
    _write_manifest(folder, manifest)
    return True


def format_annotation(words: Sequence[Word]) -> str:
    """Formats regions as a ground-truth file: ``x1,y1,..,xn,yn,transcription`` a line.

    Returns:
        str that opens with a byte-order mark and ends its lines in CRLF, as the official files do.
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
    """Stands for the drawing code, so that a data set of an older version is made anew."""
    digest = hashlib.sha256()
    for name in ('demo_data.py', 'demo_scene.py'):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), 'rb') as source:
            digest.update(source.read())
    return digest.hexdigest()


def _file_names(spec: DatasetSpec) -> List[str]:
    """Every file of the data set but the manifest, relative to its folder, slashes forward."""
    names = ['gt.zip']
    for number in range(1, spec.train_images + 1):
        names += [f'train/img_{number}.jpg', f'train/gt_img_{number}.txt']
    for number in range(1, spec.test_images + 1):
        names += [f'test/img_{number}.jpg', f'test_gt/gt_img_{number}.txt']
    return names


def _read_manifest(folder: str) -> Dict:
    """Returns the folder's manifest, or an empty dict where it is missing or cannot be read."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding='utf-8') as source:
            manifest = json.load(source)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(folder: str, manifest: Dict) -> None:
    with replacing(os.path.join(folder, MANIFEST)) as temporary, \
            open(temporary, 'w', encoding='utf-8') as target:
        json.dump(manifest, target, indent=1)


def _remove_own_files(folder: str) -> None:
    """Removes what the folder's manifest lists; refuses when the folder holds anything else."""
    own = set(_read_manifest(folder).get('files', ()))
    present = [os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, '/')
               for parent, _, names in os.walk(folder) for name in names]
    # And what a killed process left of the manifest.
    own.update(name for name in present if name.startswith(f'.{MANIFEST}.'))
    foreign = sorted(set(present) - own - ({MANIFEST} if own else set()))
    if foreign:
        raise DatasetError(f'the folder {folder} holds {foreign[0]}, which is not part of a demo '
                           'data set made here; choose another folder or move that file away')
    for name in present:
        if name in own:
            os.remove(os.path.join(folder, name))


def _write_files(folder: str, spec: DatasetSpec) -> None:
    for split, truth, stream, count in (('train', 'train', _TRAIN, spec.train_images),
                                        ('test', 'test_gt', _TEST, spec.test_images)):
        for index in range(count):
            # A stream of its own: an image does not depend on how many others there are.
            scene = draw_scene(np.random.RandomState([spec.seed, stream, index]), spec.size,
                               spec.curved)
            write_image(os.path.join(folder, split, f'img_{index + 1}.jpg'), scene.image)
            path = os.path.join(folder, truth, f'gt_img_{index + 1}.txt')
            with open(path, 'w', encoding='utf-8', newline='') as target:
                target.write(format_annotation(scene.words))
    truth = os.path.join(folder, 'test_gt')
    if not spec.curved:
        make_gt_zip(truth, os.path.join(folder, 'gt.zip'))
        return
    # The quad protocol's checks would refuse polygons.
    entries = []
    for number in range(1, spec.test_images + 1):
        with open(os.path.join(truth, f'gt_img_{number}.txt'), 'rb') as source:
            entries.append((f'gt_img_{number}.txt', source.read()))
    write_archive(os.path.join(folder, 'gt.zip'), entries)


def define_demo_data_flags() -> None:
    """Defines the flags of this command; their defaults are those of DatasetSpec."""
    group = cli.group('demo data')
    default = DatasetSpec()
    cli.define_path('out', './demo/data', 'folder to write to; must be absent, empty, or hold '
                    'an earlier data set of this command, which is replaced', **group)
    flags.DEFINE_integer('train_images', default.train_images, 'pictures to train on', **group)
    flags.DEFINE_integer('test_images', default.test_images, 'held-out pictures', **group)
    flags.DEFINE_integer('size', default.size, 'side of the square pictures in pixels', **group)
    flags.DEFINE_integer('seed', default.seed, 'number that every picture follows from', **group)
    flags.DEFINE_boolean('curved', default.curved, 'lay words along arcs; regions then have 14 '
                         'points', **group)


def main(_) -> None:
    """Makes the data set that the flags describe."""
    values = flags.FLAGS
    spec = DatasetSpec(values.train_images, values.test_images, values.size, values.seed,
                       values.curved)
    made = ensure_dataset(values.out, spec)
    logger.info('%s: %d training and %d test pictures %s', values.out, spec.train_images,
                spec.test_images, 'written' if made else 'are there already')


if __name__ == '__main__':
    define_demo_data_flags()
    cli.run(main, __doc__)
