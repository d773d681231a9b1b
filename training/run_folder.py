"""The directory of a training run: checkpoints, seed and flags, the start of a run, and the lock.

``training_files.json`` lists the checkpoints that training wrote into ``--checkpoint_path``, and
its event files have a suffix of their own. Nothing else is ever removed, so a downloaded
checkpoint, notes, or another program's events in the same directory are safe from rotation and from
``--overwrite``. The file also stores the seed and the flags of the run, for ``--restore`` without
them. This module does not import TensorFlow, because flags are read before TensorFlow starts.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import socket
import tempfile
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, TextIO

from utils.errors import PSENetError, first_line
from utils.files import file_digest, replacing
from utils.utils_tool import logger

if TYPE_CHECKING:
    import tensorflow as tf

    from training.checkpoints import Checkpoint
    from training.config import TrainConfig


PREFIX = 'model.ckpt'
# TensorFlow's name of the file that names the newest checkpoint of a directory.
INDEX_FILE = 'checkpoint'
# Suffix of training's event files.
EVENTS_SUFFIX = '.psenet'
# A subdirectory, because TensorBoard reads one event file at a time of each directory.
VALIDATION_FOLDER = 'eval'
MANIFEST = 'training_files.json'


class CheckpointError(PSENetError):
    """A checkpoint is missing, damaged, or of another network."""


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f'{PREFIX}-{step}'


def find_checkpoints(directory: str) -> List[str]:
    """Finds the prefixes of all checkpoints in a directory, sorted by step, then by name."""
    pattern = os.path.join(glob.escape(directory), '*.index')
    return sorted((path[:-len('.index')] for path in glob.glob(pattern)),
                  key=lambda prefix: (step_of(prefix), prefix))


def step_of(prefix: str) -> int:
    """The step in a checkpoint's name, ``model.ckpt-<step>``; -1 if it has none."""
    match = re.search(r'-(\d+)$', prefix)
    return int(match.group(1)) if match else -1


def files_of(prefix: str) -> List[str]:
    """The existing files of a checkpoint, the index last."""
    return (sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))
            + glob.glob(glob.escape(prefix) + '.index'))


def leftovers_of(prefix: str) -> List[str]:
    """The files of a checkpoint whose saving was interrupted."""
    escaped = glob.escape(prefix)
    left = glob.glob(escaped + '.*.tempstate*')
    if not os.path.exists(prefix + '.index'):
        left += glob.glob(escaped + '.data-?????-of-?????')
    return sorted(left)


def fingerprint(prefix: str) -> str:
    """Computes a hash of the contents of a checkpoint.

    Args:
        prefix: of a complete checkpoint.

    Returns:
        32 hexadecimal digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    # The index has a checksum of every tensor. A V1 checkpoint is a single file.
    path = prefix + '.index' if os.path.exists(prefix + '.index') else prefix
    try:
        return file_digest(path)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read ({error.strerror})') from error


class Manifest:
    """The checkpoints that training wrote into a directory, with the seed and the flags of the run.

    Attributes:
        seed: int, 0 .. 2**32 - 1; None if none is stored.
        flags: flag name -> value; empty if none are stored.
    """

    def __init__(self, directory: str):
        """Reads the directory's file; without a file there are no checkpoints of training."""
        self._folder = directory
        self._path = os.path.join(directory, MANIFEST)
        self._names: List[str] = []
        self.seed: Optional[int] = None
        self.flags: Dict[str, Any] = {}
        self._read()

    def _read(self) -> None:
        try:
            with open(self._path, encoding='utf-8') as file:
                content = json.load(file)
            names = [os.path.basename(name) for name in content['checkpoints']]
            seed, flags = _check_seed(content.get('seed')), dict(content.get('flags') or {})
            self._names, self.seed, self.flags = names, seed, flags
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning('%s cannot be read (%s): no earlier checkpoint of this directory will '
                           'be removed', self._path, first_line(error))

    @property
    def prefixes(self) -> List[str]:
        """Prefixes of the listed checkpoints, complete or not, oldest first."""
        return [os.path.join(self._folder, name) for name in self._names]

    @property
    def checkpoints(self) -> List[str]:
        """Prefixes of the listed checkpoints that exist, oldest first."""
        return [prefix for prefix in self.prefixes if os.path.exists(prefix + '.index')]

    def add(self, prefix: str) -> None:
        """Adds a checkpoint, before it is written."""
        self.replace([other for other in self.checkpoints if other != prefix] + [prefix])

    def replace(self, prefixes: List[str]) -> None:
        """Writes the file, with these checkpoints only."""
        self._names = [os.path.basename(prefix) for prefix in prefixes]
        with replacing(self._path, named=False) as temporary, \
                open(temporary, 'w', encoding='utf-8') as file:
            json.dump({'checkpoints': self._names, 'seed': self.seed, 'flags': self.flags}, file,
                      indent=1)


def _check_seed(seed: Any) -> Optional[int]:
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2 ** 32):
        raise ValueError(f'invalid seed {seed!r}')
    return seed


def find_start(config: 'TrainConfig') -> Optional['Checkpoint']:
    """Checks the checkpoint directory and the files to start from, without changing them.

    Args:
        config: the run.

    Returns:
        The checkpoint to continue from; None for a new run.

    Raises:
        PSENetError: the directory cannot be written, holds a checkpoint although neither
            ``--restore`` nor ``--overwrite`` is given, or a file to load cannot be read.
    """
    # It imports TensorFlow.
    from training.checkpoints import open_checkpoint

    directory = config.checkpoint_path
    _check_writable(directory)
    if config.restore:
        start = _checkpoint_to_restore(config)
        _check_name_conflicts(config, start.global_step())
        return start
    if not config.overwrite and (find_checkpoints(directory)
                                 or os.path.exists(os.path.join(directory, INDEX_FILE))):
        raise PSENetError(f'--checkpoint_path={directory} already holds a checkpoint: continue '
                          'with --restore, start again with --overwrite, or choose another '
                          'directory')
    _check_name_conflicts(config, 0)
    if config.pretrained_model_path:
        open_checkpoint(config.pretrained_model_path)
    return None


def _check_writable(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise PSENetError(f'--checkpoint_path={directory} cannot be written ({error.strerror}); '
                          'choose another directory') from error
    if os.path.isdir(os.path.join(directory, INDEX_FILE)):
        raise PSENetError(f'--checkpoint_path={directory} has a directory named {INDEX_FILE}, but '
                          'TensorFlow writes a file of that name; choose another directory')


def _check_name_conflicts(config: 'TrainConfig', first_step: int) -> None:
    """Checks that the run would not overwrite checkpoints that training did not write."""
    directory = config.checkpoint_path
    ours = Manifest(directory).checkpoints
    for prefix in find_checkpoints(directory):
        step, name = step_of(prefix), os.path.basename(prefix)
        if (prefix not in ours and name == checkpoint_name(step)
                and first_step < step <= config.max_steps):
            raise PSENetError(
                f'--checkpoint_path={directory} holds {name}, which this run would overwrite but '
                f'which {MANIFEST} does not list as written by training; move it away or choose '
                'another directory')


def _checkpoint_to_restore(config: 'TrainConfig') -> 'Checkpoint':
    from training.checkpoints import open_checkpoint
    try:
        checkpoint = open_checkpoint(config.checkpoint_path)
    except CheckpointError as error:
        raise CheckpointError(
            f'--restore: {error}; {_advice(config.checkpoint_path)}') from error
    if config.pretrained_model_path:
        logger.info('--pretrained_model_path is ignored: the weights are those of %s',
                    checkpoint.prefix)
    return checkpoint


def _advice(directory: str) -> str:
    # With a damaged checkpoint, nobody should be told to start again and lose the run.
    found = find_checkpoints(directory)
    if len(found) > 1:
        return (f'move the files of {os.path.basename(found[-1])} away to continue from '
                f'{os.path.basename(found[-2])}')
    if found or os.path.exists(os.path.join(directory, INDEX_FILE)):
        return 'copy its files again from an intact copy'
    return 'omit --restore to start a new run'


def choose_seed(config: 'TrainConfig', start: Optional['Checkpoint']) -> Optional[int]:
    """Chooses the seed of a run: the given one, or that of the run which it continues.

    Args:
        config: the run.
        start: the result of ``find_start``.

    Returns:
        0 .. 2**32 - 1; None if a new seed is to be drawn.
    """
    if config.seed is not None or start is None:
        return config.seed
    manifest = Manifest(config.checkpoint_path)
    if manifest.seed is None or start.prefix not in manifest.checkpoints:
        return None
    logger.info('the seed of the training data is %d, as it was before', manifest.seed)
    return manifest.seed


def remove_earlier_run(directory: str) -> None:
    """Removes the checkpoints and event files that training wrote into a directory, and only those.

    Args:
        directory: the run's directory; exists.

    Raises:
        PSENetError: a file cannot be removed.
    """
    from training.checkpoints import indexed_name
    manifest = Manifest(directory)
    paths = _event_files(directory) + _event_files(os.path.join(directory, VALIDATION_FOLDER))
    if indexed_name(directory) in [os.path.basename(prefix) for prefix in manifest.checkpoints]:
        paths.append(os.path.join(directory, INDEX_FILE))
    for prefix in manifest.checkpoints:
        paths += files_of(prefix)
    paths += _leftovers(manifest)
    try:
        for path in paths:
            os.remove(path)
        manifest.replace([])
    except OSError as error:
        raise PSENetError(f'--overwrite: the earlier run in {directory} cannot be removed '
                          f'({error}); remove it yourself or choose another directory') from error
    logger.info('--overwrite: removed %d files of an earlier run from %s', len(paths), directory)


def _leftovers(manifest: Manifest) -> List[str]:
    """Files of listed checkpoints that are incomplete."""
    return [path for prefix in manifest.prefixes for path in leftovers_of(prefix)]


def _event_files(directory: str) -> List[str]:
    return glob.glob(os.path.join(glob.escape(directory), 'events.out.tfevents.*' + EVENTS_SUFFIX))


class CheckpointWriter:
    """Saves ``model.ckpt-<step>`` and keeps the newest checkpoints that training wrote."""

    def __init__(self, directory: str, keep: int, saver: Optional['tf.train.Saver'] = None,
                 seed: Optional[int] = None, run_flags: Optional[Dict[str, Any]] = None):
        """Reads the directory's manifest and removes incomplete checkpoints.

        Args:
            directory: exists and is writable.
            keep: number of checkpoints to keep.
            saver: of ``checkpoints.build_saver``, which is called if None.
            seed: to store in the manifest.
            run_flags: values of the run's flags, to store in the manifest.
        """
        from training.checkpoints import build_saver
        self._folder = directory
        self._keep = keep
        self._manifest = Manifest(directory)
        self._manifest.seed = seed
        self._manifest.flags = dict(run_flags or {})
        _remove_if_possible(_leftovers(self._manifest))
        self._saver = saver or build_saver()
        self.last_saved_step = -1

    def save(self, session: 'tf.Session', step: int) -> str:
        """Saves all variables.

        Args:
            session: holds the variables.
            step: for the file name.

        Returns:
            The checkpoint's prefix.

        Raises:
            PSENetError: the directory cannot be written; earlier checkpoints are intact.
        """
        from training.checkpoints import READ_ERRORS
        prefix = os.path.join(self._folder, PREFIX)
        try:
            self._manifest.add(os.path.join(self._folder, checkpoint_name(step)))
            saved = self._saver.save(session, prefix, global_step=step, write_meta_graph=False,
                                     write_state=False)
            self._keep_newest()
        except (*READ_ERRORS, PSENetError) as error:
            # A full disk would stay full.
            _remove_if_possible(_leftovers(self._manifest))
            raise PSENetError(self._describe(error, step)) from error
        self.last_saved_step = step
        logger.info('saved %s', saved)
        return saved

    def _describe(self, error: Exception, step: int) -> str:
        problem = f'the checkpoint of step {step} cannot be written to {self._folder}'
        if not os.path.isdir(self._folder):
            return problem + ': the directory no longer exists'
        return (f'{problem} ({first_line(error)}); earlier checkpoints are intact: free some disk '
                'space or choose another directory, and continue with --restore')

    def _keep_newest(self) -> None:
        """Lists the newest checkpoints in the index, then removes the other ones of training."""
        from training.checkpoints import write_index
        ours = self._manifest.checkpoints
        kept = ours[-self._keep:]
        write_index(self._folder, kept)
        for prefix in ours[:-self._keep]:
            for path in files_of(prefix):
                os.remove(path)
        self._manifest.replace(kept)


def _remove_if_possible(paths: List[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.remove(path)


LOCK_FILE = 'training.lock'
_HELD = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def folder_lock(directory: str, rank: int) -> Iterator[None]:
    """Locks a checkpoint directory against other training runs.

    If the file system has no locks, a warning is logged and the run continues.

    Args:
        directory: of the run; created if it does not exist.
        rank: of this process; only rank 0, which writes the checkpoints, holds the lock.

    Raises:
        PSENetError: another run holds the lock, or the directory cannot be written.
    """
    if rank:
        yield
        return
    with _locked(directory) as file:
        _write_holder(file)
        try:
            yield
        finally:
            _remove(file)


def _locked(directory: str) -> TextIO:
    """Opens and locks the lock file; closing it, even by the end of the process, unlocks it."""
    while True:
        file = _open(directory)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                with file:
                    holder = file.read().strip()[:100] or 'which is starting'
                raise PSENetError(
                    f'--checkpoint_path={directory} is in use by another training run ({holder}); '
                    'wait until it ends, stop it, or choose another directory') from None
            logger.warning('%s cannot be locked (%s): a second training run in this directory '
                           'would go unnoticed', file.name, error.strerror)
            return file
        if _is_in_place(file):
            return file
        # A run that just ended removed the file after it was opened here.
        file.close()


def _open(directory: str) -> TextIO:
    try:
        os.makedirs(directory, exist_ok=True)
        # 'a+' creates the file, and keeps the contents of an existing one.
        file = open(os.path.join(directory, LOCK_FILE), 'a+', encoding='utf-8',  # noqa: SIM115
                    errors='replace')
    except OSError as error:
        raise PSENetError('--checkpoint_path=%s cannot be written (%s); choose another directory'
                          % (directory, error.strerror)) from error
    file.seek(0)
    return file


def _is_in_place(file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(file: TextIO) -> None:
    """Removes the file while it is locked, unless another file has taken its place."""
    with contextlib.suppress(OSError):
        if _is_in_place(file):
            os.remove(file.name)


def _write_holder(file: TextIO) -> None:
    """Writes which process holds the lock, for the error message of another run."""
    with contextlib.suppress(OSError):  # on a full disk, the message does not name it
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
