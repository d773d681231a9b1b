"""Finds, loads and saves checkpoints.

A checkpoint is found from a directory without ``checkpoint`` index, with an index that names a
directory of another machine, from a prefix, or from any of its files. It loads even without moving
averages or optimizer slots, and with an integer ``global_step``. Loading has two steps, as the
graph of some sessions is final: ``build_...`` adds ops and returns the Load that runs them.

Weights alone can be stored in an ``.npz`` file of NumPy: float16 or float32 arrays by variable
name, with moving averages in place of the raw weights, and without optimizer and step.
"""

import glob
import os
import re
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from training.config import BACKBONES, TrainConfig
from training.run_folder import INDEX_FILE, CheckpointError, files_of, find_checkpoints
from utils.errors import first_line
from utils.utils_tool import logger

_FILE_SUFFIX = re.compile(r'\.(index|meta|data-\d{5}-of-\d{5})$')
_ARCHIVES = ('.tar.gz', '.tgz', '.tar', '.zip')
# Files that users give instead of a checkpoint, by extension.
_OTHER_FILES = {
    ('.pth', '.pt', '.pth.tar'): 'a PyTorch file, which cannot be read; give a checkpoint from '
                                 'TensorFlow',
    _ARCHIVES: 'an archive; unpack it and give the checkpoint that it contains',
    ('.pb', '.onnx'): 'an exported model; use it as --model of eval.py',
}
# Exceptions of TensorFlow's readers and savers for files that are damaged or not checkpoints.
READ_ERRORS = (tf.errors.OpError, ValueError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error,
               EOFError)
# File of weights alone; a directory may contain one of this name instead of a checkpoint.
_NPZ = '.npz'
_NPZ_NAME = 'weights.npz'


def resolve_checkpoint(path: str) -> str:
    """Finds the checkpoint that a path refers to.

    Args:
        path: a directory with or without a ``checkpoint`` index, a prefix (``model.ckpt-1000``),
            one of a checkpoint's files (``.index``, ``.data-...``, ``.meta``), a V1 file, or an
            ``.npz`` file.

    Returns:
        The prefix for TensorFlow's readers; for a directory that of the newest checkpoint.

    Raises:
        CheckpointError: the checkpoint does not exist.
    """
    if os.path.isdir(path):
        return _newest_in(path)
    if os.path.isfile(path):
        for suffixes, advice in _OTHER_FILES.items():
            if path.lower().endswith(suffixes):
                raise CheckpointError(f'{path} is not a TensorFlow checkpoint but {advice}')
    prefix = _FILE_SUFFIX.sub('', path)
    _check_complete(prefix)
    return prefix


def _newest_in(directory: str) -> str:
    indexed = _indexed(directory)
    if indexed:
        return indexed
    for prefix in reversed(find_checkpoints(directory)):
        _check_complete(prefix)
        return prefix
    if os.path.isfile(os.path.join(directory, _NPZ_NAME)):
        return os.path.join(directory, _NPZ_NAME)
    archives = sorted(name for name in os.listdir(directory) if name.lower().endswith(_ARCHIVES))
    unpack = f'; unpack {archives[0]}' if archives else ''
    raise CheckpointError(f'no checkpoint in the directory {directory} (looked for *.index files; '
                          f'give the path of a checkpoint that is a single file{unpack})')


def _indexed(directory: str) -> Optional[str]:
    """Returns the checkpoint that the index names, in this directory: the index may be copied."""
    index = os.path.join(directory, INDEX_FILE)
    if not os.path.isfile(index):
        return None
    name = indexed_name(directory)
    if name is None:
        logger.warning('%s cannot be read; using the highest step', index)
        return None
    prefix = os.path.join(directory, name)
    if not os.path.exists(prefix + '.index') and not os.path.isfile(prefix):
        logger.warning('%s names %s, which does not exist; using the highest step', index, name)
        return None
    _check_complete(prefix)
    return prefix


def indexed_name(directory: str) -> Optional[str]:
    """Returns the name, without directory, in a directory's index; None if it cannot be read."""
    try:
        state = tf.train.get_checkpoint_state(directory)
    except READ_ERRORS:
        return None
    return re.split(r'[/\\]', state.model_checkpoint_path)[-1] if state else None


def _check_complete(prefix: str) -> None:
    has_data = bool(glob.glob(glob.escape(prefix) + '.data-*'))
    if os.path.exists(prefix + '.index'):
        if not has_data:
            raise CheckpointError(f'{os.path.basename(prefix)}.data-* is missing next to '
                                  f'{prefix}.index; copy all files of the checkpoint')
    elif has_data:
        raise CheckpointError(f'{os.path.basename(prefix)}.index is missing next to '
                              f'{prefix}.data-*; copy all files of the checkpoint')
    elif not os.path.isfile(prefix):
        raise CheckpointError(f'there is no checkpoint at {prefix}; give a directory, a prefix '
                              'such as model.ckpt-1000, or one of its files')


def write_index(directory: str, prefixes: List[str]) -> None:
    """Writes the index of a directory, with the last checkpoint as the newest.

    Args:
        directory: of the checkpoints.
        prefixes: one or more checkpoints.

    Raises:
        CheckpointError: it cannot be written.
    """
    names = [os.path.basename(prefix) for prefix in prefixes]
    try:
        # TensorFlow would rewrite the names if the directory's path were relative.
        tf.train.update_checkpoint_state(os.path.abspath(directory), names[-1], names)
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError(f'{os.path.join(directory, INDEX_FILE)} cannot be written '
                              f'({first_line(error)})') from error


AVERAGE_SUFFIX = '/ExponentialMovingAverage'
BACKBONE_PREFIX = 'resnet_v1_'
GLOBAL_STEP = 'global_step'
# Adam's powers of its decay rates. If gradients are applied within tf.cond, as with loss scaling on
# NPUs, the names have that scope: cond/beta1_power.
_ADAM_POWERS = ('beta1_power', 'beta2_power')
# TensorFlow treats the path of a checkpoint with these characters as a pattern.
_PATTERN = re.compile(r'[][*?\\]')
# Sets variables of a session; raises CheckpointError if the data is damaged.
Load = Callable[[tf.Session], None]


class Checkpoint(NamedTuple):
    """An opened checkpoint."""

    prefix: str
    reader: tf.train.NewCheckpointReader
    shapes: Dict[str, list]
    readable: str    # the prefix, or links to the files under a path that TensorFlow can read
    links: Optional[tempfile.TemporaryDirectory] = None    # directory of the links

    def global_step(self) -> int:
        """Returns the step, from a float32 or int64 variable; 0 without one.

        Raises:
            CheckpointError: the data cannot be read.
        """
        if GLOBAL_STEP not in self.shapes:
            return 0
        with _damage_named(self.prefix):
            return int(np.asarray(self.reader.get_tensor(GLOBAL_STEP)).reshape(-1)[0])


@contextmanager
def _damage_named(prefix: str) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        raise CheckpointError(f'{prefix} is damaged: its data cannot be read '
                              f'({first_line(error)})') from error


def open_checkpoint(path: str) -> Checkpoint:
    """Finds a checkpoint and reads its table of contents.

    Args:
        path: as for ``resolve_checkpoint``.

    Raises:
        CheckpointError: the checkpoint does not exist or cannot be read.
    """
    prefix = resolve_checkpoint(path)
    readable, links = _readable(prefix)
    try:
        is_npz = prefix.endswith(_NPZ)
        reader = _NpzReader(readable) if is_npz else tf.train.NewCheckpointReader(readable)
        shapes = reader.get_variable_to_shape_map()
    except READ_ERRORS as error:
        raise CheckpointError(f'{prefix} is damaged or not a TensorFlow checkpoint '
                              f'({first_line(error)})') from error
    return Checkpoint(prefix, reader, shapes, readable, links)


class _NpzReader:
    """Weights in an .npz file, with the interface of TensorFlow's checkpoint reader."""

    def __init__(self, path: str):
        # NumPy refuses object arrays, which would need unpickling.
        self._arrays = np.load(path)
        if not hasattr(self._arrays, 'files'):
            raise ValueError('a single array')

    def get_variable_to_shape_map(self) -> Dict[str, list]:
        return {name: list(self._arrays[name].shape) for name in self._arrays.files}

    def get_tensor(self, name: str) -> np.ndarray:
        return self._arrays[name].astype(np.float32)


def _readable(prefix: str) -> Tuple[str, Optional[tempfile.TemporaryDirectory]]:
    """Returns a prefix without pattern characters, and the directory of links if necessary."""
    if not _PATTERN.search(prefix):
        return prefix, None
    try:
        links = tempfile.TemporaryDirectory(prefix='psenet_')
        readable = os.path.join(links.name, 'model')
        for path in files_of(prefix) or [prefix]:
            os.symlink(os.path.abspath(path), readable + path[len(prefix):])
    except OSError as error:
        raise CheckpointError(f'{prefix} has one of the characters []*?\\ in its path, and links '
                              f'to it cannot be created ({error}); rename it, or set TMPDIR to a '
                              'writable directory') from None
    return readable, links


def build_load(checkpoint: Checkpoint, sources: Dict[str, tf.Variable]) -> Load:
    """Builds ops that copy values of a checkpoint to variables of the default graph.

    Args:
        checkpoint: source of the values.
        sources: name in the checkpoint -> variable; ``global_step`` may differ in dtype.

    Returns:
        A function that copies the values.

    Raises:
        CheckpointError: a shape differs.
    """
    for name, variable in sources.items():
        if checkpoint.shapes[name] != variable.shape.as_list():
            raise CheckpointError(f'{checkpoint.prefix} has {name} with shape '
                                  f'{checkpoint.shapes[name]}, but the network needs '
                                  f'{variable.shape.as_list()}')
    plain = {name: variable for name, variable in sources.items() if name != GLOBAL_STEP}
    is_npz = isinstance(checkpoint.reader, _NpzReader)
    saver = tf.train.Saver(plain) if plain and not is_npz else None

    def load(session: tf.Session) -> None:
        with _damage_named(checkpoint.prefix):
            if is_npz:
                load_values(session, plain.values(), map(checkpoint.reader.get_tensor, plain))
            if saver is not None:
                saver.restore(session, checkpoint.readable)
            if GLOBAL_STEP in sources:
                sources[GLOBAL_STEP].load(checkpoint.global_step(), session)
    return load


def backbone_of(path: str) -> str:
    """Finds the backbone of a checkpoint by its variable names; the default one if unknown."""
    scopes = {name.split('/', 1)[0] for name in open_checkpoint(path).shapes}
    return next((name for name in BACKBONES if name in scopes), BACKBONES[0])


def load_values(session: tf.Session, variables: Iterable[tf.Variable],
                values: Iterable[np.ndarray]) -> None:
    """Sets variables in a single run, as separate runs would prepare the graph each time."""
    initializers = [variable.initializer for variable in variables]
    session.run(initializers, {op.inputs[1]: value for op, value in zip(initializers, values)})


def restore_for_inference(session: tf.Session, path: str) -> None:
    """Loads the averaged weights of a checkpoint into all variables of the session's graph.

    Args:
        session: a session whose graph contains only the inference network.
        path: as for ``resolve_checkpoint``.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of another network, or only a backbone.
    """
    checkpoint = open_checkpoint(path)
    with session.graph.as_default():
        trainable = {variable.op.name for variable in tf.trainable_variables()}
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        averaged = {name for name in trainable if name + AVERAGE_SUFFIX in checkpoint.shapes}
        _check_holds(checkpoint, set(variables) - averaged)
        if len(averaged) < len(trainable) and not isinstance(checkpoint.reader, _NpzReader):
            logger.warning('%s has no moving averages for %d of %d weights: using their raw '
                           'values, which usually score lower', checkpoint.prefix,
                           len(trainable - averaged), len(trainable))
        build_load(checkpoint, {
            name + AVERAGE_SUFFIX if name in averaged else name: variable
            for name, variable in variables.items()})(session)


def _check_holds(checkpoint: Checkpoint, names) -> None:
    missing = sorted(set(names) - set(checkpoint.shapes))
    if not missing:
        return
    only_backbone = (any(name.startswith(BACKBONE_PREFIX) for name in checkpoint.shapes)
                     and all(not name.startswith(BACKBONE_PREFIX) for name in missing))
    if only_backbone:
        raise CheckpointError(
            f'{checkpoint.prefix} contains only the backbone, not a trained detector: it is for '
            '--pretrained_model_path; give a checkpoint from training as --checkpoint_path')
    raise CheckpointError(f'{checkpoint.prefix} is a checkpoint of another network: {len(missing)} '
                          f'variables are missing, {missing[0]} among them')


def build_restore(checkpoint: Checkpoint, average: tf.train.ExponentialMovingAverage) -> Load:
    """Builds ops that restore a run: weights, moving averages, optimizer and step.

    A checkpoint without moving averages or optimizer slots (one made for inference) is accepted
    with a warning: averages start from the weights and slots from zero.

    Args:
        checkpoint: source of the values.
        average: the moving average of the training graph, which is the default graph.

    Returns:
        A function that loads the values once all variables are initialised.

    Raises:
        CheckpointError: see ``restore_for_inference``.
    """
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    model = {variable.op.name for variable in model_variables()}
    _check_holds(checkpoint, model)
    stored = {name: _stored_name(name, checkpoint) for name in variables}
    present = {stored[name]: variable for name, variable in variables.items() if stored[name]}
    missing = {name for name in variables if not stored[name]}
    load, start_averages = build_load(checkpoint, present), _averages_start(average, missing)

    def restore(session: tf.Session) -> None:
        load(session)
        if missing:
            logger.warning('%s has no values for %d training variables, such as %s, which start '
                           'from their initial values', checkpoint.prefix, len(missing),
                           min(missing))
        session.run(start_averages)
        logger.info('restored %s', checkpoint.prefix)
    return restore


def _stored_name(name: str, checkpoint: Checkpoint) -> Optional[str]:
    """Returns the name of a variable in a checkpoint; None if it is missing."""
    if name in checkpoint.shapes:
        return name
    last = name.rsplit('/', maxsplit=1)[-1]
    if last not in _ADAM_POWERS:
        return None
    same = [other for other in sorted(checkpoint.shapes) if other.split('/')[-1] == last]
    return same[0] if same else None


def build_pretrained(path: str, average: tf.train.ExponentialMovingAverage,
                     with_statistics: bool = False) -> Load:
    """Builds ops that start a run from the weights of another network.

    From a trained detector, which has all variables, its moving averages (if any) and its
    batch-norm statistics are loaded. From any other file, such as slim's ImageNet checkpoint, the
    trainable variables are loaded, without statistics by default, as in the published runs.

    Args:
        path: as for ``resolve_checkpoint``.
        average: the moving average of the training graph, which is the default graph; it starts
            from the loaded weights.
        with_statistics: whether to load a backbone's batch-norm statistics too.

    Returns:
        A function that loads the values once all variables are initialised.

    Raises:
        CheckpointError: no variable matches, or the file cannot be read.
    """
    checkpoint = open_checkpoint(path)
    trainable, statistics = tf.trainable_variables(), moving_statistics()
    present = [variable for variable in trainable if variable.op.name in checkpoint.shapes]
    if not present:
        raise CheckpointError(
            f'--pretrained_model_path={path} has none of the {len(trainable)} trainable variables '
            f'of the network (it has {", ".join(sorted(checkpoint.shapes)[:3]) or "nothing"}); '
            "give slim's resnet_v1_50.ckpt, or a trained detector")
    sources = {variable.op.name: variable for variable in present}
    kind = 'a backbone'
    if with_statistics:
        held = {variable.op.name: variable for variable in statistics
                if variable.op.name in checkpoint.shapes}
        sources.update(held)
        kind = f'a backbone, with {len(held)} batch-norm statistics'
    if all(variable.op.name in checkpoint.shapes for variable in trainable + statistics):
        averaged = {variable for variable in trainable
                    if variable.op.name + AVERAGE_SUFFIX in checkpoint.shapes}
        kind = (f'a trained detector, with {len(averaged)} moving averages and {len(statistics)} '
                'batch-norm statistics')
        sources = {variable.op.name + (AVERAGE_SUFFIX if variable in averaged else ''): variable
                   for variable in trainable + statistics}
    load = build_load(checkpoint, sources)
    start_averages = _averages_start(average, {average.average_name(v) for v in present})

    def load_pretrained(session: tf.Session) -> None:
        load(session)
        session.run(start_averages)
        logger.info('loaded %d of %d trainable variables from %s, %s', len(present),
                    len(trainable), checkpoint.prefix, kind)
    return load_pretrained


def model_variables() -> List[tf.Variable]:
    """Lists the variables of the network, without step, averages and optimizer slots."""
    return tf.trainable_variables() + moving_statistics()


def moving_statistics() -> List[tf.Variable]:
    """Lists the moving means and variances of batch normalisation."""
    return [variable for variable in tf.global_variables()
            if variable.op.name.endswith(('/moving_mean', '/moving_variance'))]


def _averages_start(average: tf.train.ExponentialMovingAverage, names) -> List[tf.Tensor]:
    """Builds ops that set the moving averages in ``names`` to their variables' values."""
    pairs = ((average.average(variable), variable) for variable in tf.trainable_variables())
    return [tf.assign(shadow, variable) for shadow, variable in pairs if shadow.op.name in names]


def build_start(config: TrainConfig, start: Optional[Checkpoint],
                average: tf.train.ExponentialMovingAverage) -> Load:
    """Builds ops that set a run's variables to their pretrained or restored values.

    Args:
        config: configuration of the run.
        start: result of ``run_folder.find_start``.
        average: the moving average of the training graph, which is the default graph.

    Returns:
        A function that sets the values once all variables are initialised; it does nothing for a
        run from random weights.

    Raises:
        CheckpointError: a file does not fit the network; damaged data is reported by the Load.
    """
    if start is not None:
        return build_restore(start, average)
    if config.pretrained_model_path:
        return build_pretrained(config.pretrained_model_path, average,
                                config.pretrained_statistics)
    return lambda _: None


def initialise(session: tf.Session, config: TrainConfig, start: Optional[Checkpoint],
               average: tf.train.ExponentialMovingAverage) -> None:
    """Initialises all variables: random, then pretrained or restored.

    Args:
        session: a session with the training graph.
        config: configuration of the run.
        start: result of ``run_folder.find_start``.
        average: the graph's moving average.

    Raises:
        CheckpointError: a file does not fit the network, or its data is damaged.
    """
    load = build_start(config, start, average)
    session.run(tf.global_variables_initializer())
    load(session)


def build_saver(step: Any = None) -> tf.train.Saver:
    """Builds the saver of all variables in the default graph, for ``CheckpointWriter``.

    The saver does not remove checkpoints: TensorFlow would treat their paths as patterns, which
    match nothing in a directory ``run[1]``, and files of other runs in ``run*``.

    Args:
        step: saved in place of ``global_step``; None for the variable itself.
    """
    saved = [variable if step is None or variable.op.name != GLOBAL_STEP else step
             for variable in tf.global_variables()]
    return tf.train.Saver(saved, max_to_keep=0, save_relative_paths=True)
