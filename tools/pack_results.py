"""Packs the result files of eval.py into an archive for evaluation/script.py.

    python -m tools.pack_results --output_dir=./output [--gt=./evaluation/gt.zip]

Writes results.zip into that directory with every res_img_<number>.txt in it, or with every
res_<image>.txt if the ground truth has other names (without --gt: if no result has a number).
"""

from typing import List

from absl import flags

from evaluation.parameters import DEFAULT_PARAMETERS, ProtocolError
from evaluation.protocol import with_names_of
from inference.results import write_archive
from utils import cli
from utils.errors import PSENetError
from utils.utils_tool import logger


def main(_: List[str]) -> None:
    """Packs the results."""
    pattern = None
    if flags.FLAGS.gt:
        try:
            parameters = with_names_of(flags.FLAGS.gt, DEFAULT_PARAMETERS)
        except ProtocolError as error:
            raise PSENetError(str(error)) from None
        pattern = parameters.DET_SAMPLE_NAME_2_ID
    logger.info('packed %s', write_archive(flags.FLAGS.output_dir, pattern))


if __name__ == '__main__':
    cli.define_path('output_dir', './output/', 'Directory with the result files of eval.py.',
                    **cli.group('files'))
    cli.define_path('gt', None, 'Archive of ground truth; results with matching names are packed.',
                    **cli.group('files'))
    cli.run(main, __doc__)
