"""Greedy one-to-one matching of regions and detections, as in ICDAR2015 Task 4.1.

All samples are matched together, as one list of cells. A cell is a region and a detection of the
same sample; cells are ordered by sample, region and detection, the order of the protocol.
"""

from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from evaluation.overlap import bounding_overlaps, intersection_areas, signed_areas
from evaluation.parameters import Parameters
from evaluation.protocol import Detections, GroundTruth

_MAX_CELLS = 1 << 20  # cells that are matched together; bounds the memory

# Tolerance for ratios of areas, which have rounding errors, against a constraint.
_TIE = 1e-9


class SampleMatch(NamedTuple):
    """The outcome of matching one sample.

    Attributes:
        pairs: indices (region, detection) of the matches, in the order of matching.
        ignored_detections: bool (D,), True for detections in a do-not-care region.
    """

    pairs: List[Tuple[int, int]]
    ignored_detections: np.ndarray


class _Batch(NamedTuple):
    """Concatenated boxes of consecutive samples, and the number of boxes of each sample."""

    gt_quads: np.ndarray
    ignore_tags: np.ndarray
    det_quads: np.ndarray
    gt_counts: np.ndarray
    det_counts: np.ndarray


def match_samples(ground_truth: Sequence[GroundTruth], detections: Sequence[Detections],
                  parameters: Parameters) -> List[SampleMatch]:
    """Matches regions and detections of each sample.

    A detection is ignored if more than AREA_PRECISION_CONSTRAINT of its area lies in one
    do-not-care region. Then each region, in file order, matches the first detection in file order
    that is not ignored, not matched yet, and has an IoU above IOU_CONSTRAINT.

    Args:
        ground_truth: regions of each sample.
        detections: detections of the same samples.
        parameters: the two constraints.

    Returns:
        The result for each sample.
    """
    results = []
    for start, stop in _batch_bounds(ground_truth, detections):
        batch = _concatenate(ground_truth[start:stop], detections[start:stop])
        results += _match_batch(batch, parameters)
    return results


def iou_matrix(gt_quads: np.ndarray, det_quads: np.ndarray) -> np.ndarray:
    """Computes the IoU of every region with every detection.

    Args:
        gt_quads: int (G, 4, 2), x, y.
        det_quads: int (D, 4, 2).

    Returns:
        float64 (G, D); 0 for quads without area.
    """
    gt_index, det_index = np.indices((len(gt_quads), len(det_quads))).reshape(2, -1)
    near = bounding_overlaps(gt_quads, det_quads, gt_index, det_index) > 0
    matrix = np.zeros(len(gt_index))
    first, second = gt_quads[gt_index[near]], det_quads[det_index[near]]
    common = intersection_areas(first, second)
    # As in the reference, the area of a self-crossing quad is the shoelace area.
    matrix[near] = _share(common, _areas(first) + _areas(second) - common)
    return matrix.reshape(len(gt_quads), len(det_quads))


def _areas(quads: np.ndarray) -> np.ndarray:
    return np.abs(signed_areas(quads))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _batch_bounds(ground_truth: Sequence[GroundTruth],
                  detections: Sequence[Detections]) -> Iterator[Tuple[int, int]]:
    start = cells = 0
    for stop, (regions, found) in enumerate(zip(ground_truth, detections)):
        more = len(regions.quads) * len(found.quads)
        if stop > start and cells + more > _MAX_CELLS:
            yield start, stop
            start, cells = stop, 0
        cells += more
    if len(ground_truth) > start:
        yield start, len(ground_truth)


def _concatenate(ground_truth: Sequence[GroundTruth], detections: Sequence[Detections]) -> _Batch:
    return _Batch(np.concatenate([regions.quads for regions in ground_truth]),
                  np.concatenate([regions.ignore_tags for regions in ground_truth]),
                  np.concatenate([found.quads for found in detections]),
                  np.array([len(regions.quads) for regions in ground_truth]),
                  np.array([len(found.quads) for found in detections]))


def _match_batch(batch: _Batch, parameters: Parameters) -> List[SampleMatch]:
    parts = [_relevant_part(batch, *cells, parameters) for cells in _cells(batch)]
    gt_index, det_index = (np.concatenate(indices) for indices in zip(*parts))
    common = _common_areas(batch, gt_index, det_index)
    det_areas = _areas(batch.det_quads)[det_index]
    ignoring = batch.ignore_tags[gt_index]
    share = _share(common, det_areas)
    ignored = np.zeros(len(batch.det_quads), bool)
    ignored[det_index[ignoring & (share > parameters.AREA_PRECISION_CONSTRAINT + _TIE)]] = True
    iou = _share(common, _areas(batch.gt_quads)[gt_index] + det_areas - common)
    matching = ~ignoring & ~ignored[det_index] & (iou > parameters.IOU_CONSTRAINT + _TIE)
    return _split(batch, _greedy(gt_index[matching], det_index[matching]), ignored)


def _common_areas(batch: _Batch, gt_index: np.ndarray, det_index: np.ndarray) -> np.ndarray:
    """Computes intersections of cells in parts, as their quads take most of the memory."""
    areas = np.empty(len(gt_index))
    for start in range(0, len(areas), _MAX_CELLS):
        part = slice(start, start + _MAX_CELLS)
        areas[part] = intersection_areas(batch.gt_quads[gt_index[part]],
                                         batch.det_quads[det_index[part]])
    return areas


def _relevant_part(batch: _Batch, gt_index: np.ndarray, det_index: np.ndarray,
                   parameters: Parameters) -> Tuple[np.ndarray, np.ndarray]:
    """Selects the cells that may match or be ignored, judging by their bounding boxes.

    They are few, and intersections take most of the time. The intersection of the bounding boxes is
    an upper bound of ``common``, and IoU > c means common > c (gt + det - common).
    """
    bound = bounding_overlaps(batch.gt_quads, batch.det_quads, gt_index, det_index)
    gt_areas, det_areas = _areas(batch.gt_quads)[gt_index], _areas(batch.det_quads)[det_index]
    for_iou = bound > parameters.IOU_CONSTRAINT * (gt_areas + det_areas - bound)
    for_ignoring = bound > parameters.AREA_PRECISION_CONSTRAINT * det_areas
    relevant = (bound > 0) & np.where(batch.ignore_tags[gt_index], for_ignoring, for_iou)
    return gt_index[relevant], det_index[relevant]


def _cells(batch: _Batch) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yields the cells of a batch in order and in parts: indices of region and detection, (M,).

    A page of 10,000 words has 100 million cells, too many to hold at once.
    """
    # For every region, the number of its sample's detections, and the index of the first.
    widths = np.repeat(batch.det_counts, batch.gt_counts)
    firsts = np.repeat(np.cumsum(batch.det_counts) - batch.det_counts, batch.gt_counts)
    # A part consists of the regions whose cells end in the same million.
    part_of = np.cumsum(widths) // _MAX_CELLS
    starts = np.flatnonzero(np.diff(part_of, prepend=-1)).tolist()
    for start, stop in zip(starts or [0], [*starts[1:], len(widths)]):
        some = slice(start, stop)
        begins = np.cumsum(widths[some]) - widths[some]
        gt_index = np.repeat(np.arange(start, stop), widths[some])
        det_index = np.arange(len(gt_index)) + np.repeat(firsts[some] - begins, widths[some])
        yield gt_index, det_index


def _greedy(gt_index: np.ndarray, det_index: np.ndarray) -> List[Tuple[int, int]]:
    """Matches each cell in order whose region and detection are both unmatched."""
    pairs = []
    taken_gt, taken_det = set(), set()
    for region, detection in zip(gt_index.tolist(), det_index.tolist()):
        if region not in taken_gt and detection not in taken_det:
            taken_gt.add(region)
            taken_det.add(detection)
            pairs.append((region, detection))
    return pairs


def _split(batch: _Batch, pairs: List[Tuple[int, int]], ignored: np.ndarray) -> List[SampleMatch]:
    """Splits the results of a batch by sample."""
    gt_ends, det_ends = np.cumsum(batch.gt_counts), np.cumsum(batch.det_counts)
    gt_begins, det_begins = gt_ends - batch.gt_counts, det_ends - batch.det_counts
    results = [SampleMatch([], flags) for flags in np.split(ignored, det_ends[:-1])]
    samples = np.searchsorted(gt_ends, [region for region, _ in pairs], side='right')
    for sample, (region, detection) in zip(samples.tolist(), pairs):
        results[sample].pairs.append((int(region - gt_begins[sample]),
                                      int(detection - det_begins[sample])))
    return results
