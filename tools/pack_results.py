"""Packs the result files of eval.py into the archive that evaluation/script.py scores.

    python tools/pack_results.py --output_dir=./output

Writes results.zip into that folder, with every res_img_<number>.txt in it.
"""

import os
import sys
from typing import List

from absl import flags

# Run as a file, a script has its own folder on the path, not the project's.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from inference.results import write_archive
from utils import cli
from utils.utils_tool import logger


def main(_: List[str]) -> None:
    """Runs the script."""
    logger.info('packed %s', write_archive(flags.FLAGS.output_dir))


if __name__ == '__main__':
    cli.define_path('output_dir', './output/', 'Folder with the result files of eval.py.',
                    **cli.group('files'))
    cli.run(main, __doc__)
