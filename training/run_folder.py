"""What a run's directory holds: its checkpoints, its seed and flags, its start, and its lock.

The checkpoints that training writes into ``--checkpoint_path`` are listed there, in
``training_files.json``, and its event files have a suffix of their own. Nothing else is ever
removed, so a downloaded checkpoint, notes, or another program's events in the same directory are
safe from rotation and from ``--overwrite``. The list also holds the seed and the flags of the run,
for ``--restore`` without them. TensorFlow is not imported with this module: flags are read before
it starts.
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
# TensorFlow's name for the file that says which checkpoint of a directory is the newest.
INDEX_FILE = 'checkpoint'
# Of the event files that training writes.
EVENTS_SUFFIX = '.psenet'
# Below a run's folder; TensorBoard reads one file at a time of a folder, and shows this one beside.
VALIDATION_FOLDER = 'eval'
MANIFEST = 'training_files.json'


class CheckpointError(PSENetError):
    """A checkpoint that is not there, is damaged, or is of something else."""


def checkpoint_name(step: int) -> str:
    """The name that the checkpoint of a step gets."""
    return f'{PREFIX}-{step}'


def find_checkpoints(folder: str) -> List[str]:
    """Prefixes of all checkpoints in a folder, the highest step last (name order within a step)."""
    pattern = os.path.join(glob.escape(folder), '*.index')
    return sorted((path[:-len('.index')] for path in glob.glob(pattern)),
                  key=lambda prefix: (step_of(prefix), prefix))


def step_of(prefix: str) -> int:
    """The step in a checkpoint's name, ``model.ckpt-<step>``; -1 where it has none."""
    match = re.search(r'-(\d+)$', prefix)
    return int(match.group(1)) if match else -1


def files_of(prefix: str) -> List[str]:
    """The files of a checkpoint that exist, the one that makes it a checkpoint last."""
    return (sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))
            + glob.glob(glob.escape(prefix) + '.index'))


def leftovers_of(prefix: str) -> List[str]:
    """The files of a checkpoint that was being saved when a process was killed or a disk full."""
    escaped = glob.escape(prefix)
    left = glob.glob(escaped + '.*.tempstate*')
    if not os.path.exists(prefix + '.index'):
        left += glob.glob(escaped + '.data-?????-of-?????')
    return sorted(left)


def fingerprint(prefix: str) -> str:
    """Identifies a checkpoint by what it holds, whatever its name and time.

    Args:
        prefix: of a whole checkpoint.

    Returns:
        32 hexadecimal digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    # The index holds a checksum of every tensor. A V1 file has none, and is hashed itself.
    path = prefix + '.index' if os.path.exists(prefix + '.index') else prefix
    try:
        return file_digest(path)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read ({error.strerror})') from error


class Manifest:
    """The names of the checkpoints that training wrote into a directory, its seed and its flags.

    Attributes:
        seed: int, 0 .. 2**32 - 1; None where none is stored.
        flags: values by the names of flags; empty where none are stored.
    """

    def __init__(self, folder: str):
        """Reads the directory's list; one without a list has none of our checkpoints."""
        self._folder = folder
        self._path = os.path.join(folder, MANIFEST)
        self._names: List[str] = []
        self.seed: Optional[int] = None
        self.flags: Dict[str, Any] = {}
        self._read()

    def _read(self) -> None:
        try:
            with open(self._path, encoding='utf-8') as file:
                content = json.load(file)
            names = [os.path.basename(name) for name in content['checkpoints']]
            seed, flags = _checked_seed(content.get('seed')), dict(content.get('flags') or {})
            self._names, self.seed, self.flags = names, seed, flags
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning('%s cannot be read (%s): no earlier checkpoint of this folder will be '
                           'removed', self._path, first_line(error))

    @property
    def prefixes(self) -> List[str]:
        """Prefixes of the listed checkpoints, oldest first, whether they were completed or not."""
        return [os.path.join(self._folder, name) for name in self._names]

    @property
    def checkpoints(self) -> List[str]:
        """Prefixes of our checkpoints that still exist, oldest first."""
        return [prefix for prefix in self.prefixes if os.path.exists(prefix + '.index')]

    def add(self, prefix: str) -> None:
        """Lists a checkpoint; called before it is written."""
        self.replace([other for other in self.checkpoints if other != prefix] + [prefix])

    def replace(self, prefixes: List[str]) -> None:
        """Lists these checkpoints and no others, with the seed and the flags."""
        self._names = [os.path.basename(prefix) for prefix in prefixes]
        with replacing(self._path, named=False) as temporary, \
                open(temporary, 'w', encoding='utf-8') as file:
            json.dump({'checkpoints': self._names, 'seed': self.seed, 'flags': self.flags}, file,
                      indent=1)


def _checked_seed(seed: Any) -> Optional[int]:
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2 ** 32):
        raise ValueError(f'invalid seed {seed!r}')
    return seed


def find_start(config: 'TrainConfig') -> Optional['Checkpoint']:
    """Checks the checkpoint folder and the files to start from; changes nothing in them.

    Args:
        config: the run.

    Returns:
        The checkpoint to go on from; None for a new run.

    Raises:
        PSENetError: the folder cannot be written, holds a checkpoint that neither ``--restore`` nor
            ``--overwrite`` speaks of, or what is to be loaded cannot be read.
    """
    # TensorFlow comes with it.
    from training.checkpoints import open_checkpoint

    folder = config.checkpoint_path
    _check_writable(folder)
    if config.restore:
        start = _checkpoint_to_restore(config)
        _check_nothing_in_the_way(config, start.global_step())
        return start
    if not config.overwrite and (find_checkpoints(folder)
                                 or os.path.exists(os.path.join(folder, INDEX_FILE))):
        raise PSENetError(f'--checkpoint_path={folder} holds a checkpoint already: go on with '
                          '--restore, start anew with --overwrite, or name another folder')
    _check_nothing_in_the_way(config, 0)
    if config.pretrained_model_path:
        open_checkpoint(config.pretrained_model_path)
    return None


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PSENetError(f'--checkpoint_path={folder} cannot be written ({error.strerror}); '
                          'choose another folder') from error
    if os.path.isdir(os.path.join(folder, INDEX_FILE)):
        raise PSENetError(f'--checkpoint_path={folder} has a folder named {INDEX_FILE}, where '
                          'TensorFlow writes a file of that name; choose another folder')


def _check_nothing_in_the_way(config: 'TrainConfig', first_step: int) -> None:
    """Refuses a run whose checkpoints would take the names of somebody else's."""
    folder = config.checkpoint_path
    ours = Manifest(folder).checkpoints
    for prefix in find_checkpoints(folder):
        step, name = step_of(prefix), os.path.basename(prefix)
        if (prefix not in ours and name == checkpoint_name(step)
                and first_step < step <= config.max_steps):
            raise PSENetError(
                f'--checkpoint_path={folder} holds {name}, which {MANIFEST} does not list as '
                'written by training here and which this run would write over; move it away or '
                'name another folder')


def _checkpoint_to_restore(config: 'TrainConfig') -> 'Checkpoint':
    from training.checkpoints import open_checkpoint
    try:
        checkpoint = open_checkpoint(config.checkpoint_path)
    except CheckpointError as error:
        # Nobody whose checkpoint is damaged is to be told to start anew: that would lose it.
        way_out = _way_out(config.checkpoint_path)
        raise CheckpointError(f'--restore: {error}; {way_out}') from error
    if config.pretrained_model_path:
        logger.info('--pretrained_model_path is not loaded again: %s has the weights',
                    checkpoint.prefix)
    return checkpoint


def _way_out(folder: str) -> str:
    found = find_checkpoints(folder)
    if len(found) > 1:
        return (f'move the files of {os.path.basename(found[-1])} away to go on from '
                f'{os.path.basename(found[-2])}')
    if found or os.path.exists(os.path.join(folder, INDEX_FILE)):
        return 'copy its files again from where they are intact'
    return 'without --restore a new run starts'


def seed_to_go_on_with(config: 'TrainConfig', start: Optional['Checkpoint']) -> Optional[int]:
    """The seed of a run: the one given, or else that of the run whose checkpoint it goes on from.

    Args:
        config: the run.
        start: what ``find_start`` returned.

    Returns:
        0 .. 2**32 - 1; None where none is known, and one is to be drawn.
    """
    if config.seed is not None or start is None:
        return config.seed
    manifest = Manifest(config.checkpoint_path)
    if manifest.seed is None or start.prefix not in manifest.checkpoints:
        return None
    logger.info('the seed of the training data is %d, as it was before', manifest.seed)
    return manifest.seed


def remove_earlier_run(folder: str) -> None:
    """Removes the checkpoints and event files that training wrote into a folder, nothing else.

    Args:
        folder: the run's folder; exists.

    Raises:
        PSENetError: a file cannot be removed.
    """
    from training.checkpoints import indexed_name
    manifest = Manifest(folder)
    paths = _event_files(folder) + _event_files(os.path.join(folder, VALIDATION_FOLDER))
    if indexed_name(folder) in [os.path.basename(prefix) for prefix in manifest.checkpoints]:
        paths.append(os.path.join(folder, INDEX_FILE))
    for prefix in manifest.checkpoints:
        paths += files_of(prefix)
    paths += _leftovers(manifest)
    try:
        for path in paths:
            os.remove(path)
        manifest.replace([])
    except OSError as error:
        raise PSENetError(f'--overwrite: the earlier run in {folder} cannot be removed ({error}); '
                          'remove it yourself or name another folder') from error
    logger.info('--overwrite: removed %d files of an earlier run from %s', len(paths), folder)


def _leftovers(manifest: Manifest) -> List[str]:
    """Files of listed checkpoints that were not completed."""
    return [path for prefix in manifest.prefixes for path in leftovers_of(prefix)]


def _event_files(folder: str) -> List[str]:
    return glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*' + EVENTS_SUFFIX))


class CheckpointWriter:
    """Saves ``model.ckpt-<step>``, keeps the newest few of this folder's own."""

    def __init__(self, folder: str, keep: int, saver: Optional['tf.train.Saver'] = None,
                 seed: Optional[int] = None, run_flags: Optional[Dict[str, Any]] = None):
        """Reads which checkpoints of the folder are its own; removes those that did not get done.

        Args:
            folder: exists and is writable.
            keep: how many checkpoints stay.
            saver: made by ``checkpoints.build_saver``; built here when None.
            seed: to be written down with the checkpoints.
            run_flags: values of the run's flags, to be written down as well.
        """
        from training.checkpoints import build_saver
        self._folder = folder
        self._keep = keep
        self._manifest = Manifest(folder)
        self._manifest.seed = seed
        self._manifest.flags = dict(run_flags or {})
        _remove_if_possible(_leftovers(self._manifest))
        self._saver = saver or build_saver()
        self.last_saved_step = -1

    def save(self, session: 'tf.Session', step: int) -> str:
        """Saves all variables.

        Args:
            session: holds them.
            step: the number in the file's name.

        Returns:
            The checkpoint's prefix.

        Raises:
            PSENetError: the folder cannot be written; earlier checkpoints are intact.
        """
        from training.checkpoints import READ_ERRORS
        prefix = os.path.join(self._folder, PREFIX)
        try:
            self._manifest.add(os.path.join(self._folder, checkpoint_name(step)))
            saved = self._saver.save(session, prefix, global_step=step, write_meta_graph=False,
                                     write_state=False)
            self._keep_newest()
        except (*READ_ERRORS, PSENetError) as error:
            # They would keep a full disk full.
            _remove_if_possible(_leftovers(self._manifest))
            raise PSENetError(self._account_of(error, step)) from error
        self.last_saved_step = step
        logger.info('saved %s', saved)
        return saved

    def _account_of(self, error: Exception, step: int) -> str:
        account = f'the checkpoint of step {step} cannot be written to {self._folder}'
        if not os.path.isdir(self._folder):
            return account + ': the folder is gone'
        return (f'{account} ({first_line(error)}); earlier checkpoints are intact: free the disk '
                'or choose another folder and go on with --restore')

    def _keep_newest(self) -> None:
        """Names the newest checkpoints in the index, then removes the others of this folder."""
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
def folder_lock(folder: str, rank: int) -> Iterator[None]:
    """Keeps every other training out of a checkpoint folder.

    Where the file system has no locks, a warning says so and the run goes on.

    Args:
        folder: of the run; made when it does not exist.
        rank: of this process; rank 0, which alone writes checkpoints, holds the lock for all.

    Raises:
        PSENetError: another training holds it, or the folder cannot be written.
    """
    if rank:
        yield
        return
    with _locked(folder) as file:
        _sign(file)
        try:
            yield
        finally:
            _remove(file)


def _locked(folder: str) -> TextIO:
    """The lock's file, open and locked; closing it, this way or any other, lets go of the lock."""
    while True:
        file = _open(folder)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                with file:
                    holder = file.read().strip()[:100] or 'which just starts'
                raise PSENetError(
                    f'--checkpoint_path={folder} is in use by another training ({holder}); wait '
                    'for its end or stop it, or name another folder') from None
            logger.warning('%s cannot be locked (%s): nothing keeps a second training out of the '
                           'folder', file.name, error.strerror)
            return file
        if _is_in_place(file):
            return file
        # It was removed by the run that ended between our opening and locking it.
        file.close()


def _open(folder: str) -> TextIO:
    try:
        os.makedirs(folder, exist_ok=True)
        # 'a' makes the file and keeps what is in it; Python's descriptors do not survive an exec.
        file = open(os.path.join(folder, LOCK_FILE), 'a+', encoding='utf-8',  # noqa: SIM115
                    errors='replace')
    except OSError as error:
        raise PSENetError('--checkpoint_path=%s cannot be written (%s); choose another folder'
                          % (folder, error.strerror)) from error
    file.seek(0)
    return file


def _is_in_place(file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(file: TextIO) -> None:
    """Removes the file while it is still locked; one that took its place is left alone."""
    with contextlib.suppress(OSError):
        if _is_in_place(file):
            os.remove(file.name)


def _sign(file: TextIO) -> None:
    """Writes who holds the lock, for the message of those that are refused."""
    with contextlib.suppress(OSError):  # on a full disk, that message lacks the name
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
