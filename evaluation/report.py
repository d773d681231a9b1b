"""What ``-o`` writes: an archive with the score and, for each sample, how it came about."""

import json
import os
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from evaluation.archive import write_archive
from evaluation.errors import ProtocolError
from evaluation.matching import iou_matrix
from evaluation.parameters import Parameters
from evaluation.scores import Evaluation, SampleResult

REPORT_NAME = 'results.zip'

# As in ICDAR's interface, the IoU matrix of a sample with more detections is left out (empty); so
# is one of more cells in all, which no real sample comes near.
MAX_IOU_COLUMNS = 100
MAX_IOU_CELLS = 1000000


def write_report(folder: str, evaluation: Evaluation, parameters: Parameters,
                 inputs: Tuple[str, ...]) -> str:
    """Writes ``results.zip``: ``method.json`` and, if asked for, ``<id>.json`` for each sample.

    Args:
        folder: where to; is made when it is not there. An earlier report is replaced.
        evaluation: what to report.
        parameters: with which it was made.
        inputs: paths of the archives it was made from; the report does not replace one of them.

    Returns:
        Path of the archive.

    Raises:
        ProtocolError: it cannot be written.
    """
    path = os.path.join(folder, REPORT_NAME)
    try:
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(path) and any(os.path.samefile(path, used) for used in inputs):
            raise ProtocolError(f'-o={folder} would replace {path}, which is being scored; choose '
                                'another folder')
        write_archive(path, _entries(evaluation, parameters))
    except OSError as error:
        raise ProtocolError(f'cannot write the report {path}: {error.strerror or error}') from None
    return path


def _entries(evaluation: Evaluation, parameters: Parameters) -> Iterator[Tuple[str, bytes]]:
    yield 'method.json', _json({'calculated': True, 'Message': '',
                                'method': evaluation.score._asdict()})
    if parameters.PER_SAMPLE_RESULTS:
        for sample_id, sample in evaluation.samples.items():
            yield f'{sample_id}.json', _json(sample_report(sample, parameters))


def _json(value: Dict[str, Any]) -> bytes:
    return json.dumps(value).encode('ascii')


def sample_report(sample: SampleResult, parameters: Parameters) -> Dict[str, Any]:
    """Describes one sample, with boxes named by their place in its files, from 0.

    Args:
        sample: boxes, matching and score.
        parameters: with which they were made.

    Returns:
        What ``<id>.json`` holds, under the names of ICDAR's interface.
    """
    regions, detections = sample.ground_truth, sample.detections
    return {
        **sample.score._asdict(),
        'pairs': [{'gt': region, 'det': detection} for region, detection in sample.match.pairs],
        'iouMat': _iou_matrix(regions.quads, detections.quads),
        'gtPolPoints': _points(regions.quads, parameters),
        'detPolPoints': _points(detections.quads, parameters),
        'gtDontCare': np.flatnonzero(regions.ignore_tags).tolist(),
        'detDontCare': np.flatnonzero(sample.match.ignored_detections).tolist(),
        'evaluationParams': parameters._asdict(),
        'evaluationLog': _log(sample),
    }


def _iou_matrix(regions: np.ndarray, detections: np.ndarray) -> List[List[float]]:
    if len(detections) > MAX_IOU_COLUMNS or len(regions) * len(detections) > MAX_IOU_CELLS:
        return []
    return iou_matrix(regions, detections).tolist()


def _points(quads: np.ndarray, parameters: Parameters) -> List[List[int]]:
    """The numbers of each box as its line has them."""
    if parameters.LTRB:
        return quads[:, ::2].reshape(-1, 4).tolist()
    return quads.reshape(-1, 8).tolist()


def _log(sample: SampleResult) -> str:
    ignored_regions = int(sample.ground_truth.ignore_tags.sum())
    ignored_detections = int(sample.match.ignored_detections.sum())
    lines = [f'GT polygons: {len(sample.ground_truth.quads)} ({ignored_regions} ignored)',
             f'DET polygons: {len(sample.detections.quads)} ({ignored_detections} ignored)']
    lines += [f'Match GT #{region} with Det #{detection}'
              for region, detection in sample.match.pairs]
    return '\n'.join(lines) + '\n'
