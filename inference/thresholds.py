"""Thresholds of post-processing for one checkpoint, stored in a file next to it.

``tools.sweep --write`` writes the file and ``eval.py`` reads it. It identifies the checkpoint by
its content, so that it does not apply to another one of the same name. A model exported from the
checkpoint has its own file.
"""

import contextlib
import json
import os
from typing import Any, Callable, Collection, Dict, NamedTuple

from inference.config import DetectConfig, validate
from inference.networks import graph_file
from inference.postprocess import Thresholds
from utils.errors import PSENetError
from utils.files import file_digest, replacing
from utils.utils_tool import logger

SUFFIX = '.thresholds.json'
_FINGERPRINT = 'fingerprint'
# The test size for which thresholds were chosen; 0 for the images' own size.
_SIZES = ('short_side', 'long_side')
# Fields in every file; the others were added by later versions.
_ALWAYS = ('seg_map_thresh', 'min_area_thresh', 'min_box_side')


class _Subject(NamedTuple):
    """The owner of thresholds: a checkpoint's prefix, or the path of an exported model."""

    kind: str
    path: str
    fingerprint: Callable[[], str]

    @property
    def file(self) -> str:
        """Path of the file with the thresholds."""
        return self.path + SUFFIX


def _checkpoint(path: str) -> _Subject:
    # It imports TensorFlow.
    from training.checkpoints import resolve_checkpoint
    from training.run_folder import fingerprint

    prefix = resolve_checkpoint(path)
    return _Subject('checkpoint', prefix, lambda: fingerprint(prefix))


def _model(path: str) -> _Subject:
    graph = graph_file(path)
    return _Subject('model', path.rstrip(os.sep), lambda: _digest(graph))


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise PSENetError(f'{path} cannot be read ({error.strerror})') from None


def _subject(config: DetectConfig) -> _Subject:
    return _model(config.model) if config.model else _checkpoint(config.checkpoint_path)


def write_thresholds(config: DetectConfig, thresholds: Thresholds, score: Dict[str, float]) -> str:
    """Writes the thresholds file of a checkpoint or an exported model.

    Args:
        config: the checkpoint or model.
        thresholds: thresholds to store.
        score: scores reached with them, 0..1, for information, and the test size, ``short_side`` or
            ``long_side``, if it was set.

    Returns:
        Path of the file.

    Raises:
        PSENetError: it cannot be written.
    """
    return _write(_subject(config), {**thresholds._asdict(), **score})


def follow_thresholds(config: DetectConfig, given: Collection[str]) -> DetectConfig:
    """Adopts the thresholds stored next to the model or checkpoint, if any, and logs them.

    Args:
        config: configuration of the run.
        given: names of the flags that the user gave, whose values are kept.

    Returns:
        The updated configuration.

    Raises:
        PSENetError: the model or checkpoint is missing, or its thresholds file is damaged.
    """
    subject = _subject(config)
    wanted = [name for name in Thresholds._fields if name not in given]
    # The stored size is not used if the user sets any size.
    if not set(given) & {*_SIZES, 'max_side_len'}:
        wanted += _SIZES
    content = _read_own(subject) if wanted else {}
    chosen = {name: content[name] for name in wanted if name in content}
    if not chosen:
        return config
    logger.info('using %s: %s', subject.file,
                ' '.join(f'--{name}={value}' for name, value in chosen.items()))
    return config._replace(**chosen)


def read_thresholds(checkpoint_path: str) -> Dict[str, Any]:
    """Reads the thresholds file of a checkpoint.

    Args:
        checkpoint_path: as for ``resolve_checkpoint``.

    Returns:
        The fields of Thresholds and the score; empty if the checkpoint has no thresholds file.

    Raises:
        PSENetError: the checkpoint is missing, or its thresholds file is damaged.
    """
    subject = _checkpoint(checkpoint_path)
    return {name: value for name, value in _read_own(subject).items()
            if name not in (subject.kind, _FINGERPRINT)}


def give_thresholds(model: str, content: Dict[str, Any]) -> None:
    """Writes the thresholds file of an exported model.

    Args:
        model: the exported model, a file or a directory.
        content: thresholds of its checkpoint, from ``read_thresholds``; if empty, the file of an
            earlier model is removed.

    Raises:
        PSENetError: the file cannot be written.
    """
    subject = _model(model)
    if content:
        _write(subject, content)
        return
    with contextlib.suppress(FileNotFoundError):
        os.remove(subject.file)


def _write(subject: _Subject, content: Dict[str, Any]) -> str:
    whole = {subject.kind: os.path.basename(subject.path), _FINGERPRINT: subject.fingerprint(),
             **content}
    with replacing(subject.file) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump(whole, file, indent=1)
        file.write('\n')
    return subject.file


def _read_own(subject: _Subject) -> Dict[str, Any]:
    """Returns the contents of a subject's file; empty if it is missing or belongs to another."""
    if not os.path.exists(subject.file):
        return {}
    content = _read(subject.file)
    if content[_FINGERPRINT] == subject.fingerprint():
        return content
    logger.warning('ignoring %s, which is for another %s of the same name', subject.file,
                   subject.kind)
    return {}


def _read(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        kinds = {**Thresholds.__annotations__, **dict.fromkeys(_SIZES, int)}
        # Files of earlier versions lack the later thresholds.
        read = {name: kind(content[name]) for name, kind in kinds.items()
                if name in content or name in _ALWAYS}
        validate(DetectConfig(**read))
        read[_FINGERPRINT] = str(content[_FINGERPRINT])
    except (OSError, ValueError, KeyError, TypeError, PSENetError) as error:
        raise PSENetError(f'{path} has no valid thresholds ({error}); run tools.sweep --write '
                          'again, or remove the file') from None
    return {**content, **read}
