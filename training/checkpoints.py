"""Checkpoints: found whatever path is given, read whatever the file lacks, and written.

Published archives come without their ``checkpoint`` index, with an index that names a folder of
another machine, as a bare prefix, or as one of the files: all of that is found. Moving averages may
be missing, ``global_step`` may be an integer, optimizer slots may be gone: all of that loads. What
does not is named in a sentence. Loading has two halves, as some sessions come with a graph that is
final: ``build_...`` adds the ops and returns the Load that runs them.

One more form is for weights alone: an ``.npz`` file of NumPy, arrays by the names of their
variables, float16 or float32, moving averages in the place of raw weights. It holds no optimizer
and no step.
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
# What people give for a checkpoint, by how its name ends.
_OTHER_FILES = {
    ('.pth', '.pt', '.pth.tar'): "PyTorch's, which cannot be read; give a checkpoint that "
                                 'TensorFlow has written',
    _ARCHIVES: 'an archive; unpack it and give the checkpoint that it holds',
    ('.pb', '.onnx'): 'an exported model; eval.py takes it as --model',
}
# What TensorFlow's readers and savers raise for files that are damaged, cut off, or no checkpoint.
READ_ERRORS = (tf.errors.OpError, ValueError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error,
               EOFError)
# Weights alone, see above; a directory may hold one of this name instead of a checkpoint.
_NPZ = '.npz'
_NPZ_NAME = 'weights.npz'


def resolve_checkpoint(path: str) -> str:
    """Finds the checkpoint that a path refers to.

    Args:
        path: a folder with or without a ``checkpoint`` index, a prefix (``model.ckpt-1000``), one
            of a checkpoint's files (``.index``, ``.data-...``, ``.meta``), a V1 file, or an
            ``.npz`` file.

    Returns:
        The prefix that TensorFlow's readers take; of a folder, the newest checkpoint.

    Raises:
        CheckpointError: the path does not lead to one.
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


def _newest_in(folder: str) -> str:
    indexed = _indexed(folder)
    if indexed:
        return indexed
    for prefix in reversed(find_checkpoints(folder)):
        _check_complete(prefix)
        return prefix
    if os.path.isfile(os.path.join(folder, _NPZ_NAME)):
        return os.path.join(folder, _NPZ_NAME)
    archives = sorted(name for name in os.listdir(folder) if name.lower().endswith(_ARCHIVES))
    raise CheckpointError('no checkpoint in the folder %s (looked for *.index files; a checkpoint '
                          'that is a single file has to be named itself%s)' % (
                              folder, f'; {archives[0]} has to be unpacked' if archives else ''))


def _indexed(folder: str) -> Optional[str]:
    """The checkpoint that the index file names, in this folder: archives carry foreign paths."""
    index = os.path.join(folder, INDEX_FILE)
    if not os.path.isfile(index):
        return None
    name = indexed_name(folder)
    if name is None:
        logger.warning('%s cannot be read; taking the highest step', index)
        return None
    prefix = os.path.join(folder, name)
    if not os.path.exists(prefix + '.index') and not os.path.isfile(prefix):
        logger.warning('%s names %s, which is not there; taking the highest step', index, name)
        return None
    _check_complete(prefix)
    return prefix


def indexed_name(folder: str) -> Optional[str]:
    """The name, without folder, in a folder's index file; None without one that can be read."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except READ_ERRORS:
        return None
    return re.split(r'[/\\]', state.model_checkpoint_path)[-1] if state else None


def _check_complete(prefix: str) -> None:
    has_data = bool(glob.glob(glob.escape(prefix) + '.data-*'))
    if os.path.exists(prefix + '.index'):
        if not has_data:
            raise CheckpointError(f'{prefix}.index has no {os.path.basename(prefix)}.data-* file '
                                  'beside it; copy all files of the checkpoint')
    elif has_data:
        raise CheckpointError(f'{prefix}.data-* has no {os.path.basename(prefix)}.index beside it; '
                              'copy all files of the checkpoint')
    elif not os.path.isfile(prefix):
        raise CheckpointError(f'there is no checkpoint at {prefix}; give a folder, a prefix such '
                              'as model.ckpt-1000, or one of its files')


def write_index(folder: str, prefixes: List[str]) -> None:
    """Makes the index file of a folder name these checkpoints of it, the last one as the newest.

    Args:
        folder: holds the checkpoints.
        prefixes: one or more.

    Raises:
        CheckpointError: it cannot be written.
    """
    names = [os.path.basename(prefix) for prefix in prefixes]
    try:
        # TensorFlow rewrites names where the folder's own path is relative.
        tf.train.update_checkpoint_state(os.path.abspath(folder), names[-1], names)
    except (tf.errors.OpError, OSError) as error:
        raise CheckpointError(f'{os.path.join(folder, INDEX_FILE)} cannot be written '
                              f'({first_line(error)})') from error


AVERAGE_SUFFIX = '/ExponentialMovingAverage'
BACKBONE_PREFIX = 'resnet_v1_'
GLOBAL_STEP = 'global_step'
# Adam's powers of its decay rates. An optimizer that applies gradients within tf.cond, as the NPU's
# loss scaling does, puts that scope before their names: cond/beta1_power.
_ADAM_POWERS = ('beta1_power', 'beta2_power')
# TensorFlow takes the path of a checkpoint for a pattern with these characters.
_PATTERN = re.compile(r'[][*?\\]')
# Gives variables of a session their values; raises CheckpointError when the data is damaged.
Load = Callable[[tf.Session], None]


class Checkpoint(NamedTuple):
    """An opened checkpoint: where it is and what it holds."""

    prefix: str
    reader: tf.train.NewCheckpointReader
    shapes: Dict[str, list]
    readable: str    # the prefix, or another path to the same files that TensorFlow can read
    links: Optional[tempfile.TemporaryDirectory] = None    # keeps the other path in place

    def global_step(self) -> int:
        """The step it was saved at, from a float32 or int64 variable; 0 where it has none.

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
    """Resolves a path and reads the checkpoint's table of contents.

    Args:
        path: as for ``resolve_checkpoint``.

    Raises:
        CheckpointError: nothing is there, or it cannot be read.
    """
    prefix = resolve_checkpoint(path)
    readable, links = _readable(prefix)
    try:
        is_npz = prefix.endswith(_NPZ)
        reader = _NpzReader(readable) if is_npz else tf.train.NewCheckpointReader(readable)
        shapes = reader.get_variable_to_shape_map()
    except READ_ERRORS as error:
        raise CheckpointError(f'{prefix} is damaged or no TensorFlow checkpoint '
                              f'({first_line(error)})') from error
    return Checkpoint(prefix, reader, shapes, readable, links)


class _NpzReader:
    """The weights of an .npz file, with the interface of TensorFlow's checkpoint reader."""

    def __init__(self, path: str):
        # NumPy itself refuses arrays of objects, which would have to be unpickled.
        self._arrays = np.load(path)
        if not hasattr(self._arrays, 'files'):
            raise ValueError('a single array')

    def get_variable_to_shape_map(self) -> Dict[str, list]:
        return {name: list(self._arrays[name].shape) for name in self._arrays.files}

    def get_tensor(self, name: str) -> np.ndarray:
        return self._arrays[name].astype(np.float32)


def _readable(prefix: str) -> Tuple[str, Optional[tempfile.TemporaryDirectory]]:
    """A prefix without the characters of patterns, and the directory of links that it needs."""
    if not _PATTERN.search(prefix):
        return prefix, None
    try:
        links = tempfile.TemporaryDirectory(prefix='psenet_')
        readable = os.path.join(links.name, 'model')
        for path in files_of(prefix) or [prefix]:
            os.symlink(os.path.abspath(path), readable + path[len(prefix):])
    except OSError as error:
        raise CheckpointError(f'{prefix} has one of the characters []*?\\ in its path, and no '
                              f'links to it can be made ({error}); rename it, or name a directory '
                              'that can be written in TMPDIR') from None
    return readable, links


def build_load(checkpoint: Checkpoint, sources: Dict[str, tf.Variable]) -> Load:
    """Builds the ops that copy a checkpoint's values into variables of the default graph.

    Args:
        checkpoint: where they come from.
        sources: name in the checkpoint -> variable; ``global_step`` may differ in dtype.

    Returns:
        What copies them.

    Raises:
        CheckpointError: a shape differs.
    """
    for name, variable in sources.items():
        if checkpoint.shapes[name] != variable.shape.as_list():
            raise CheckpointError(f'{checkpoint.prefix} holds {name} with shape '
                                  f'{checkpoint.shapes[name]}, and the network needs '
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
    """The backbone of a checkpoint by the names of its variables; else the published network's."""
    scopes = {name.split('/', 1)[0] for name in open_checkpoint(path).shapes}
    return next((name for name in BACKBONES if name in scopes), BACKBONES[0])


def load_values(session: tf.Session, variables: Iterable[tf.Variable],
                values: Iterable[np.ndarray]) -> None:
    """Gives variables their values in one run; a run for each would prepare the graph each time."""
    initializers = [variable.initializer for variable in variables]
    session.run(initializers, {op.inputs[1]: value for op, value in zip(initializers, values)})


def restore_for_inference(session: tf.Session, path: str) -> None:
    """Loads the weights that a network is judged by into all variables of the session's graph.

    Args:
        session: a session whose graph holds the inference network and nothing else.
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
            logger.warning('%s has no moving averages for %d of %d weights: their raw values are '
                           'used, which usually score lower', checkpoint.prefix,
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
            f'{checkpoint.prefix} holds only the backbone, not a trained detector: it is for '
            '--pretrained_model_path; --checkpoint_path takes what training has saved')
    raise CheckpointError(f'{checkpoint.prefix} is a checkpoint of another network: {len(missing)} '
                          f'variables are missing, {missing[0]} among them')


def build_restore(checkpoint: Checkpoint, average: tf.train.ExponentialMovingAverage) -> Load:
    """Builds the ops that restore a run: weights, moving averages, optimizer and step.

    A checkpoint without moving averages or optimizer slots (one made for inference) is accepted:
    averages start from the weights and slots from zero, with a warning.

    Args:
        checkpoint: where the values come from.
        average: the moving average of the training graph, which is the default graph.

    Returns:
        What loads them, once all variables are initialised.

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
            logger.warning('%s holds no value for %d training variables (%s among them): they '
                           'start afresh', checkpoint.prefix, len(missing), min(missing))
        session.run(start_averages)
        logger.info('restored %s', checkpoint.prefix)
    return restore


def _stored_name(name: str, checkpoint: Checkpoint) -> Optional[str]:
    """The name by which a checkpoint holds a variable; None where it does not."""
    if name in checkpoint.shapes:
        return name
    last = name.rsplit('/', maxsplit=1)[-1]
    if last not in _ADAM_POWERS:
        return None
    same = [other for other in sorted(checkpoint.shapes) if other.split('/')[-1] == last]
    return same[0] if same else None


def build_pretrained(path: str, average: tf.train.ExponentialMovingAverage,
                     with_statistics: bool = False) -> Load:
    """Builds the ops that start a run from the weights of another network.

    A trained detector, which holds all of the network, gives its moving averages where it has them
    and its batch-norm statistics: what it detects with. From any other file (slim's ImageNet
    checkpoint) come the trainable variables that it holds, without statistics, as in the
    published runs, unless they are wanted.

    Args:
        path: as for ``resolve_checkpoint``.
        average: the moving average of the training graph, which is the default graph; it starts
            from the loaded weights.
        with_statistics: take a backbone's batch-norm statistics too.

    Returns:
        What loads them, once all variables are initialised.

    Raises:
        CheckpointError: nothing matches, or the file cannot be read.
    """
    checkpoint = open_checkpoint(path)
    trainable, statistics = tf.trainable_variables(), moving_statistics()
    present = [variable for variable in trainable if variable.op.name in checkpoint.shapes]
    if not present:
        raise CheckpointError(
            f'--pretrained_model_path={path} holds none of the {len(trainable)} trainable '
            'variables of the network (but '
            f'{", ".join(sorted(checkpoint.shapes)[:3]) or "nothing"}); it takes the '
            'resnet_v1_50.ckpt of slim, or a trained detector')
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
    """The network's own variables: neither step, averages nor optimizer slots."""
    return tf.trainable_variables() + moving_statistics()


def moving_statistics() -> List[tf.Variable]:
    """The moving means and variances of batch normalisation."""
    return [variable for variable in tf.global_variables()
            if variable.op.name.endswith(('/moving_mean', '/moving_variance'))]


def _averages_start(average: tf.train.ExponentialMovingAverage, names) -> List[tf.Tensor]:
    """Builds the op that sets the moving averages in ``names`` to their variables' values."""
    pairs = ((average.average(variable), variable) for variable in tf.trainable_variables())
    return [tf.assign(shadow, variable) for shadow, variable in pairs if shadow.op.name in names]


def build_start(config: TrainConfig, start: Optional[Checkpoint],
                average: tf.train.ExponentialMovingAverage) -> Load:
    """Builds the ops that give a run's variables their pretrained or restored values.

    Args:
        config: the run.
        start: what ``run_folder.find_start`` returned.
        average: the moving average of the training graph, which is the default graph.

    Returns:
        What gives them, once all variables are initialised; for a run from random weights it does
        nothing.

    Raises:
        CheckpointError: a file does not fit the network; where its data is damaged, the Load says.
    """
    if start is not None:
        return build_restore(start, average)
    if config.pretrained_model_path:
        return build_pretrained(config.pretrained_model_path, average,
                                config.pretrained_statistics)
    return lambda _: None


def initialise(session: tf.Session, config: TrainConfig, start: Optional[Checkpoint],
               average: tf.train.ExponentialMovingAverage) -> None:
    """Gives every variable its first value: random, then pretrained or restored.

    Args:
        session: a session with the training graph.
        config: the run.
        start: what ``run_folder.find_start`` returned.
        average: the graph's moving average.

    Raises:
        CheckpointError: a file does not fit the network, or its data is damaged.
    """
    load = build_start(config, start, average)
    session.run(tf.global_variables_initializer())
    load(session)


def build_saver(step: Any = None) -> tf.train.Saver:
    """Builds the saving ops of all variables in the default graph, for ``CheckpointWriter``.

    Args:
        step: what is saved in the place of ``global_step``; the variable itself when None.

    The saver itself removes no checkpoint: TensorFlow takes the path of what it removes for a
    pattern, which in a directory ``run[1]`` finds nothing, and in ``run*`` other runs' files.
    """
    saved = [variable if step is None or variable.op.name != GLOBAL_STEP else step
             for variable in tf.global_variables()]
    return tf.train.Saver(saved, max_to_keep=0, save_relative_paths=True)
