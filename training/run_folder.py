"""What training knows of a run's directory: which checkpoints are its own, its seed and its flags.

The checkpoints that training writes into ``--checkpoint_path`` are listed there, in
``training_files.json``, and its event files have a suffix of their own. Nothing else is ever
removed, so a downloaded checkpoint, notes, or another program's events in the same directory are
safe from rotation and from ``--overwrite``. The list also holds the seed and the flags of the run,
for ``--restore`` without them. TensorFlow is not imported here: flags are read before it starts.
"""

import json
import os
from typing import Any, Dict, List, Optional

from utils.errors import first_line
from utils.utils_tool import logger

PREFIX = 'model.ckpt'
MANIFEST = 'training_files.json'


def checkpoint_name(step: int) -> str:
    """The name that the checkpoint of a step gets."""
    return f'{PREFIX}-{step}'


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
        partial = self._path + '.partial'
        with open(partial, 'w', encoding='utf-8') as file:
            json.dump({'checkpoints': self._names, 'seed': self.seed, 'flags': self.flags}, file,
                      indent=1)
        os.replace(partial, self._path)


def _checked_seed(seed: Any) -> Optional[int]:
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2 ** 32):
        raise ValueError(f'invalid seed {seed!r}')
    return seed
