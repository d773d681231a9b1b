"""Scores detections by the protocol of ICDAR2015 Task 4.1 (text localisation).

    python evaluation/script.py -g=gt.zip -s=results.zip
    python evaluation/script.py -g=gt.zip -s=results.zip -o=report -p='{"IOU_CONSTRAINT": 0.7}'

Prints ``Calculated!`` and a line of JSON with precision, recall, hmean and AP.
"""

import argparse
import json
import logging
import os
import sys
from typing import List, Optional

# A script has its own directory on the path, not that of the package.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from evaluation.parameters import DEFAULT_PARAMETERS, Parameters, ProtocolError, parse_parameters
from evaluation.protocol import read_detections, read_ground_truth, with_names_of
from evaluation.report import Evaluation, evaluate, write_report


def score_archives(ground_truth_path: str, results_path: str,
                   parameters: Parameters = DEFAULT_PARAMETERS) -> Evaluation:
    """Scores an archive of results against one of ground truth.

    Args:
        ground_truth_path: zip with ``gt_img_<number>.txt`` entries, or ``gt_<name>.txt``.
        results_path: zip with ``res_img_<number>.txt`` entries, or ``res_<name>.txt``.
        parameters: parameters of the protocol; default name patterns are adapted to the names in
            the ground truth.

    Returns:
        The scores over all samples and of each sample.

    Raises:
        ProtocolError: an archive is invalid; the message names archive, entry and line.
    """
    parameters = with_names_of(ground_truth_path, parameters)
    ground_truth = read_ground_truth(ground_truth_path, parameters)
    return evaluate(ground_truth, read_detections(results_path, parameters, ground_truth),
                    parameters)


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage like any other error: one line, exit code 1."""

    def error(self, message: str) -> None:
        raise ProtocolError(f'{message} (--help shows the usage)')


def _parser() -> argparse.ArgumentParser:
    summary, examples, output = __doc__.strip().split('\n\n')
    parser = _Parser(prog='script.py', description=summary, epilog=f'{examples}\n\n{output}',
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-g', '--gt', required=True, type=os.path.expanduser,
                        metavar='ZIP',
                        help='ground truth: gt_img_<number>.txt entries')
    parser.add_argument('-s', '--submission', required=True, type=os.path.expanduser,
                        metavar='ZIP',
                        help='results: res_img_<number>.txt entries, nothing else')
    parser.add_argument('-o', '--output', type=os.path.expanduser, metavar='DIRECTORY',
                        help='write results.zip there: method.json, and <number>.json per sample')
    parser.add_argument('-p', '--parameters', metavar='JSON',
                        help='change parameters: ' + ', '.join(
                            f'{name} ({json.dumps(default)})'
                            for name, default in DEFAULT_PARAMETERS._asdict().items()))
    return parser


def _run(argv: List[str]) -> None:
    arguments = _parser().parse_args(argv)
    parameters = parse_parameters(arguments.parameters)
    evaluation = score_archives(arguments.gt, arguments.submission, parameters)
    if arguments.output is not None:
        write_report(arguments.output, evaluation, parameters,
                     (arguments.gt, arguments.submission))
    print('Calculated!')
    print(json.dumps(evaluation.score._asdict()))


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, or 1 after a message on stderr.
    """
    logging.basicConfig(format='%(levelname)s: %(message)s', stream=sys.stderr)
    try:
        _run(sys.argv[1:] if argv is None else argv)
    except ProtocolError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
