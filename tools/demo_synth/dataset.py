"""Writes scenes as a data set in the official ICDAR2015 form, and knows what it wrote.

    train/img_N.jpg train/gt_img_N.txt     training pictures with their regions
    test/img_N.jpg                         held-out pictures
    test_gt/gt_img_N.txt gt.zip            their regions, loose and as the scorer takes them
    demo_data.json                         the manifest: what was asked for and every file's name

The manifest is written first, marked incomplete, and replaced at the end. So a run that was cut
short is recognised and redone, and a folder that holds anything else is never written to.
"""

import hashlib
import json
import os
from typing import Dict, List, NamedTuple, Sequence

import numpy as np

from tools.demo_synth import scene
from tools.make_gt_zip import make_gt_zip
from utils.errors import PSENetError
from utils.image_io import write_image

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
    manifest = _new_manifest(spec)
    if _is_complete(folder, manifest):
        return False
    _remove_own_files(folder)
    for name in _FOLDERS:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    _write_manifest(folder, dict(manifest, complete=False))
    _write_files(folder, spec)
    _write_manifest(folder, manifest)
    return True


def format_annotation(words: Sequence[scene.Word]) -> str:
    """Formats regions as a ground-truth file: ``x1,y1,x2,y2,x3,y3,x4,y4,transcription`` a line.

    Returns:
        str that opens with a byte-order mark and ends its lines in CRLF, as the official files do.
    """
    return '\ufeff' + ''.join(_format_line(word) for word in words)


def _format_line(word: scene.Word) -> str:
    coordinates = ','.join(str(value) for value in word.quad.ravel())
    return f'{coordinates},{word.transcription}\r\n'


def _check_spec(spec: DatasetSpec) -> None:
    if spec.size < MIN_SIZE:
        raise DatasetError(f'The size {spec.size} is too small: words need at least {MIN_SIZE} '
                           'pixels a side.')
    if min(spec.train_images, spec.test_images) < 1:
        raise DatasetError(f'The numbers of images must be at least 1, not {spec.train_images} for '
                           f'training and {spec.test_images} for testing.')
    if not 0 <= spec.seed < 2 ** 32:
        raise DatasetError(f'The seed {spec.seed} is not between 0 and 2**32 - 1.')


def _new_manifest(spec: DatasetSpec) -> Dict:
    return {'complete': True, 'spec': dict(spec._asdict()), 'drawn_by': _source_digest(),
            'files': _file_names(spec)}


def _source_digest() -> str:
    """Stands for the drawing code, so that a data set of an older version is made anew."""
    digest = hashlib.sha256()
    own_folder = os.path.dirname(os.path.abspath(__file__))
    for name in sorted(os.listdir(own_folder)):
        if name.endswith('.py'):
            with open(os.path.join(own_folder, name), 'rb') as source:
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


def _is_complete(folder: str, manifest: Dict) -> bool:
    return (_read_manifest(folder) == manifest
            and all(os.path.isfile(os.path.join(folder, name)) for name in manifest['files']))


def _read_manifest(folder: str) -> Dict:
    """Returns the folder's manifest, or an empty dict where it is missing or cannot be read."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding='utf-8') as source:
            manifest = json.load(source)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(folder: str, manifest: Dict) -> None:
    path = os.path.join(folder, MANIFEST)
    with open(path + '.part', 'w', encoding='utf-8') as target:
        json.dump(manifest, target, indent=1)
    os.replace(path + '.part', path)


def _remove_own_files(folder: str) -> None:
    """Removes what the folder's manifest lists; refuses when the folder holds anything else."""
    own = set(_read_manifest(folder).get('files', ())) | {MANIFEST + '.part'}
    present = _files_below(folder)
    foreign = sorted(set(present) - own - ({MANIFEST} if len(own) > 1 else set()))
    if foreign:
        raise DatasetError(f'The folder {folder} holds {foreign[0]}, which is not part of a demo '
                           'data set made here; choose another folder or move that file away.')
    for name in present:
        if name in own:
            os.remove(os.path.join(folder, name))


def _files_below(folder: str) -> List[str]:
    return [os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, '/')
            for parent, _, names in os.walk(folder) for name in names]


def _write_files(folder: str, spec: DatasetSpec) -> None:
    for index in range(spec.train_images):
        drawn = _draw(spec, _TRAIN, index)
        _write_image(folder, 'train', index, drawn)
        _write_annotation(folder, 'train', index, drawn)
    for index in range(spec.test_images):
        drawn = _draw(spec, _TEST, index)
        _write_image(folder, 'test', index, drawn)
        _write_annotation(folder, 'test_gt', index, drawn)
    make_gt_zip(os.path.join(folder, 'test_gt'), os.path.join(folder, 'gt.zip'))


def _draw(spec: DatasetSpec, split: int, index: int) -> scene.Scene:
    # A stream of its own: a picture does not depend on how many others there are.
    return scene.draw_scene(np.random.RandomState([spec.seed, split, index]), spec.size)


def _write_image(folder: str, split: str, index: int, drawn: scene.Scene) -> None:
    write_image(os.path.join(folder, split, f'img_{index + 1}.jpg'), drawn.image)


def _write_annotation(folder: str, split: str, index: int, drawn: scene.Scene) -> None:
    path = os.path.join(folder, split, f'gt_img_{index + 1}.txt')
    with open(path, 'w', encoding='utf-8', newline='') as target:
        target.write(format_annotation(drawn.words))
