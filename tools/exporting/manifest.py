"""model.json: what a program has to know of exported models, and where they come from."""

import json
import os
from typing import Any, Dict

from inference.networks import INPUT_NAME, OUTPUT_NAME
from inference.results import replacing
from tools.exporting.formats import FORMATS
from utils.errors import PSENetError
from utils.utils_tool import cfg

MANIFEST = 'model.json'
_NETWORK = {
    'network': 'PSENet',
    'input': {'name': INPUT_NAME, 'shape': ['N', 'H', 'W', 3], 'range': [0, 255],
              'channels': 'RGB', 'side_multiple': cfg.SIDE_MULTIPLE},
    'output': {'name': OUTPUT_NAME, 'shape': ['N', 'H/4', 'W/4', cfg.NUM_KERNELS],
               'dtype': 'float32', 'range': [0, 1], 'stride': cfg.STRIDE,
               'kernel_scales': list(cfg.KERNEL_SCALES)},
    'preprocessing': [
        f'resize the image so that both sides are multiples of {cfg.SIDE_MULTIPLE}',
        'order the channels as RGB',
        'keep the values 0..255: the model subtracts the mean colour itself'],
}


def read_manifest(output_dir: str) -> Dict[str, Any]:
    """Reads what earlier exports into a folder have written down of their models.

    Args:
        output_dir: the folder.

    Returns:
        Name of the format -> what is known of the model; of models that are there.

    Raises:
        PSENetError: a file of that name is something else.
    """
    path = os.path.join(output_dir, MANIFEST)
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding='utf-8') as file:
            models = json.load(file)['models']
        return {name: model for name, model in models.items() if name in FORMATS
                and os.path.exists(os.path.join(output_dir, FORMATS[name].file))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PSENetError(f'{path} was not written by tools/export.py; move it away or choose '
                          'another --output_dir') from None


def write_manifest(output_dir: str, models: Dict[str, Any]) -> None:
    """Writes the file.

    Args:
        output_dir: the folder with the models.
        models: name of the format -> what is known of the model.

    Raises:
        PSENetError: it cannot be written.
    """
    path = os.path.join(output_dir, MANIFEST)
    with replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump({**_NETWORK, 'models': models}, file, indent=1)
        file.write('\n')
