"""Precision, recall, Hmean and average precision of a matching, and the report of ``-o``."""

import json
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from evaluation.archive import write_archive
from evaluation.matching import SampleMatch, iou_matrix, match_samples
from evaluation.parameters import Parameters, ProtocolError
from evaluation.protocol import Detections, GroundTruth

NO_DETECTIONS = Detections(np.zeros((0, 4, 2), np.int64), np.zeros(0))


class Score(NamedTuple):
    """The four figures, 0..1 each.

    Attributes:
        precision: share of the counted detections that match.
        recall: share of the counted regions that are matched.
        hmean: harmonic mean of both.
        AP: average precision; 0 without confidences.
    """

    precision: float
    recall: float
    hmean: float
    AP: float


class SampleResult(NamedTuple):
    """A sample: its boxes, its matches, and its score."""

    ground_truth: GroundTruth
    detections: Detections
    match: SampleMatch
    score: Score


class Evaluation(NamedTuple):
    """The score over all samples, and sample id -> result in the order of the ground truth."""

    score: Score
    samples: Dict[str, SampleResult]


class _Counts(NamedTuple):
    """Counts from which scores are computed; equal confidences keep the order of detections."""

    regions: int
    confidences: np.ndarray    # float64 (N,) of the counted detections
    matched: np.ndarray        # bool (N,) of the same


def evaluate(ground_truth: Dict[str, GroundTruth], detections: Dict[str, Detections],
             parameters: Parameters) -> Evaluation:
    """Scores detections.

    Args:
        ground_truth: sample id -> regions.
        detections: sample id -> detections; samples without detections may be missing.
        parameters: parameters of the protocol.

    Returns:
        The scores over all samples and of each sample.
    """
    found = [detections.get(sample_id, NO_DETECTIONS) for sample_id in ground_truth]
    matches = match_samples(list(ground_truth.values()), found, parameters)
    counts = [_count(*sample) for sample in zip(ground_truth.values(), found, matches)]
    samples = {
        sample_id: SampleResult(regions, detected, match, _sample_score(count, parameters))
        for (sample_id, regions), detected, match, count in zip(
            ground_truth.items(), found, matches, counts)}
    return Evaluation(_total_score(counts, parameters), samples)


def average_precision(confidences: np.ndarray, matched: np.ndarray, regions: int) -> float:
    """Computes the mean over the regions of the precision at which each is found, 0 if missed.

    Args:
        confidences: float64 (N,), of the counted detections; the order of equal ones is kept.
        matched: bool (N,), whether each matches a region.
        regions: number of counted regions.

    Returns:
        0..1.
    """
    if not regions:
        return 0.0
    hits = matched[np.argsort(-confidences, kind='stable')]
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return sum(precisions[hits].tolist()) / regions


def _count(regions: GroundTruth, found: Detections, match: SampleMatch) -> _Counts:
    matched = np.zeros(len(found.quads), bool)
    matched[[detection for _, detection in match.pairs]] = True
    counted = ~match.ignored_detections
    return _Counts(int((~regions.ignore_tags).sum()), found.confidences[counted], matched[counted])


def _sample_score(count: _Counts, parameters: Parameters) -> Score:
    """Scores a sample; one without counted regions is perfect if nothing was detected."""
    if not count.regions:
        precision = 0.0 if len(count.matched) else 1.0
        return Score(precision, 1.0, _hmean(precision, 1.0), precision)
    return _score(count, parameters)


def _total_score(counts: List[_Counts], parameters: Parameters) -> Score:
    return _score(_Counts(sum(count.regions for count in counts),
                          np.concatenate([count.confidences for count in counts]),
                          np.concatenate([count.matched for count in counts])), parameters)


def _score(count: _Counts, parameters: Parameters) -> Score:
    hits = int(count.matched.sum())
    precision, recall = _ratio(hits, len(count.matched)), _ratio(hits, count.regions)
    area = (average_precision(count.confidences, count.matched, count.regions)
            if parameters.CONFIDENCES else 0)
    return Score(precision, recall, _hmean(precision, recall), area)


def _ratio(part: Union[int, float], whole: Union[int, float]) -> float:
    return part / whole if whole else 0.0


def _hmean(precision: float, recall: float) -> float:
    return _ratio(2 * precision * recall, precision + recall)


REPORT_NAME = 'results.zip'

# As in ICDAR's interface, the IoU matrix is empty for more detections than this; also for more
# cells, which no real sample has.
MAX_IOU_COLUMNS = 100
MAX_IOU_CELLS = 1000000


def write_report(directory: str, evaluation: Evaluation, parameters: Parameters,
                 inputs: Tuple[str, ...]) -> str:
    """Writes ``results.zip``: ``method.json`` and, if requested, ``<id>.json`` for each sample.

    Args:
        directory: output directory, created if missing. An earlier report is replaced.
        evaluation: scores to report.
        parameters: parameters of the evaluation.
        inputs: paths of the scored archives, which must not be replaced.

    Returns:
        Path of the archive.

    Raises:
        ProtocolError: it cannot be written.
    """
    path = os.path.join(directory, REPORT_NAME)
    try:
        os.makedirs(directory, exist_ok=True)
        if os.path.exists(path) and any(os.path.samefile(path, used) for used in inputs):
            raise ProtocolError(f'-o={directory} would overwrite {path}, which is being scored; '
                                'choose another directory')
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
    """Describes a sample; boxes are numbered by their position in the files, from 0.

    Args:
        sample: boxes, matches and score.
        parameters: parameters of the evaluation.

    Returns:
        The contents of ``<id>.json``, with the names of ICDAR's interface.
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
    """Returns the numbers of each box as in its line."""
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
