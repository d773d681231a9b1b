"""The thresholds of post-processing that suit one checkpoint, kept in a file beside it.

``tools/sweep.py --write`` makes the file, ``eval.py`` follows it. It names the checkpoint by what
that holds, so another training's checkpoint of the same name is not taken for it.
"""

import json
import os
from typing import Any, Collection, Dict, NamedTuple

from inference.config import DetectConfig, validate
from inference.results import replacing
from utils.errors import PSENetError
from utils.utils_tool import logger

SUFFIX = '.thresholds.json'


class Thresholds(NamedTuple):
    """What decides over boxes; the field names are flag names, units are in the flags' help."""

    seg_map_thresh: float = DetectConfig().seg_map_thresh
    min_area_thresh: int = DetectConfig().min_area_thresh
    min_box_side: int = DetectConfig().min_box_side

    def flags(self) -> str:
        """The flags that say the same."""
        return ' '.join(f'--{name}={value}' for name, value in self._asdict().items())


def write_thresholds(prefix: str, thresholds: Thresholds, score: Dict[str, float]) -> str:
    """Writes the file of a checkpoint.

    Args:
        prefix: of the checkpoint.
        thresholds: what to use with it.
        score: figures that speak for them, 0..1; for people.

    Returns:
        Path of the file.

    Raises:
        PSENetError: it cannot be written.
    """
    # TensorFlow comes with it.
    from training.checkpoint_files import fingerprint

    path = prefix + SUFFIX
    content = {'checkpoint': os.path.basename(prefix), 'fingerprint': fingerprint(prefix),
               **thresholds._asdict(), **score}
    with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1)
        file.write('\n')
    return path


def follow_thresholds(config: DetectConfig, given: Collection[str]) -> DetectConfig:
    """Takes over the thresholds beside the checkpoint, if there are any, and says so.

    Args:
        config: of the run.
        given: names of the flags that the user gave; these are kept.

    Returns:
        The configuration to run with.

    Raises:
        PSENetError: there is no checkpoint, or its file of thresholds is damaged.
    """
    # TensorFlow comes with it.
    from training.checkpoint_files import fingerprint, resolve_checkpoint

    prefix = resolve_checkpoint(config.checkpoint_path)
    path = prefix + SUFFIX
    wanted = [name for name in Thresholds._fields if name not in given]
    if not wanted or not os.path.exists(path):
        return config
    content = _read(path)
    if content['fingerprint'] != fingerprint(prefix):
        logger.warning('%s was made for another checkpoint of this name and is not followed', path)
        return config
    chosen = {name: content[name] for name in wanted}
    logger.info('%s says %s', path, ' '.join(f'--{name}={value}' for name, value in chosen.items()))
    return config._replace(**chosen)


def _read(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        kinds = {'fingerprint': str, **Thresholds.__annotations__}
        read = {name: kind(content[name]) for name, kind in kinds.items()}
        validate(DetectConfig(**{name: read[name] for name in Thresholds._fields}))
    except (OSError, ValueError, KeyError, TypeError, PSENetError) as error:
        raise PSENetError(f'{path} holds no thresholds that can be used ({error}); make it anew '
                          'with tools/sweep.py --write, or remove it') from None
    return read
