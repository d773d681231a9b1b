"""Precision, recall, Hmean and average precision of a matching, and what ``-o`` writes."""

import json
import os
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple, Union

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
        AP: average precision; 0 unless there are confidences.
    """

    precision: float
    recall: float
    hmean: float
    AP: float


class SampleResult(NamedTuple):
    """One sample: its boxes, what matching decided, and its own score."""

    ground_truth: GroundTruth
    detections: Detections
    match: SampleMatch
    score: Score


class Evaluation(NamedTuple):
    """The score over all samples, and the samples by id in the order of the ground truth."""

    score: Score
    samples: Dict[str, SampleResult]


class _Counts(NamedTuple):
    """Counts that scores are computed from; ties in confidence keep the order of detections."""

    regions: int
    confidences: np.ndarray    # float64 (N,) of the counted detections
    matched: np.ndarray        # bool (N,) of the same


def evaluate(ground_truth: Dict[str, GroundTruth], detections: Dict[str, Detections],
             parameters: Parameters) -> Evaluation:
    """Scores detections.

    Args:
        ground_truth: regions by id of the sample.
        detections: by id of the sample; a sample without any may be missing.
        parameters: of the protocol.

    Returns:
        The scores, over all samples and of each.
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
    """Mean over the regions of the precision at which each is found, 0 for one that is not.

    Args:
        confidences: float64 (N,), of the counted detections; equal ones stay in their order.
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
    """A sample without a counted region is perfect when nothing was found in it."""
    if not count.regions:
        precision = 0.0 if len(count.matched) else 1.0
        return Score(precision, 1.0, _hmean(precision, 1.0), precision)
    return _score(count, parameters)


def _total_score(counts: List[_Counts], parameters: Parameters) -> Score:
    return _score(_Counts(sum(count.regions for count in counts),
                          _joined(count.confidences for count in counts),
                          _joined(count.matched for count in counts)), parameters)


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(arrays))


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
