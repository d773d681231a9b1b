"""Scores polygons by the protocols of data sets with curved or rotated text.

    python evaluation/polygon_script.py -g=gt.zip -s=results.zip                IoU above 0.5
    python evaluation/polygon_script.py --protocol=ctw1500 -g=... -s=...        CTW1500's own
    python evaluation/polygon_script.py --protocol=total_text -g=DIR -s=...  DetEval, 0.7, 0.6
    python evaluation/polygon_script.py --protocol=msra_td500 -g=DIR -s=...  rotated boxes

Ground truth and results are zip archives or directories. Ground truth: lines x1,y1,..,xn,yn,text
with ### for ignored regions, CTW1500's lines of 32 numbers, Total-Text's poly_gt_imgN.mat, or
MSRA-TD500's .gt. Results: lines x1,y1,..,xn,yn[,score] in res_<image>.txt or <image>.txt; images
without a result file count as missed. Prints ``Calculated!`` and a line of JSON with precision,
recall and hmean.
"""

import argparse
import io
import json
import logging
import os
import re
import sys
import zipfile
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from shapely.geometry import Polygon

# A script has its own directory on the path, not that of the package.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from evaluation.archive import MAX_ARCHIVE_BYTES, MAX_ENTRIES, MAX_ENTRY_BYTES, decode
from evaluation.parameters import ProtocolError, shown

logger = logging.getLogger('psenet')
# Prefixes of file names before the image id, which is the image's name without extension.
_PREFIX = re.compile(r'(poly_gt_|gt_|res_)')
_NUMBER = re.compile(r'\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*')
_CTW1500 = 32
# Tolerance for ratios of areas against a bound.
_TIE = 1e-9
_MSRA_ANGLE = np.pi / 8


class Region(NamedTuple):
    """A region of the ground truth: points, float64 (P, 2), and whether it is ignored."""

    points: np.ndarray
    ignored: bool


class Counts(NamedTuple):
    """Sums for one image: recall is recall_sum / regions, and likewise precision."""

    recall_sum: float
    regions: int
    precision_sum: float
    detections: int


Protocol = Callable[[Sequence[Region], Sequence[np.ndarray]], Counts]


def _shape(points: np.ndarray) -> Polygon:
    """Creates a polygon, which may not be simple."""
    return Polygon(points) if len(points) > 2 else Polygon()


def _repaired(shape: Polygon) -> Polygon:
    return shape if shape.is_valid else shape.buffer(0)


def _simple(detections: Sequence[np.ndarray]) -> List[Polygon]:
    """Selects the detections that are simple polygons with an area; others are not scored."""
    shapes = [shape for shape in map(_shape, detections) if shape.is_valid and shape.area > 0]
    if len(shapes) < len(detections):
        logger.warning('%d of %d detections in an image are not simple polygons and are ignored',
                       len(detections) - len(shapes), len(detections))
    return shapes


def _intersections(truths: Sequence[Polygon], found: Sequence[Polygon]) -> np.ndarray:
    """Computes the intersection areas of truths and detections, float64 (G, D)."""
    areas = np.zeros((len(truths), len(found)))
    for row, truth in enumerate(truths):
        left, top, right, bottom = truth.bounds if not truth.is_empty else (0, 0, -1, -1)
        for column, detection in enumerate(found):
            x0, y0, x1, y1 = detection.bounds
            if x0 < right and left < x1 and y0 < bottom and top < y1:
                areas[row, column] = truth.intersection(detection).area
    return areas


def _ious(common: np.ndarray, truths: Sequence[Polygon], found: Sequence[Polygon]) -> np.ndarray:
    areas = [np.array([shape.area for shape in shapes]).reshape(-1) for shapes in (truths, found)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _counted(regions: Sequence[Region], found: List[Polygon]) -> List[Polygon]:
    """Drops the detections that lie in an ignored region by more than half."""
    ignored = [_repaired(_shape(region.points)) for region in regions if region.ignored]
    common = _intersections(ignored, found)
    return [shape for column, shape in enumerate(found)
            if not (common[:, column] > 0.5 * shape.area + _TIE).any()]


def score_iou(regions: Sequence[Region], detections: Sequence[np.ndarray]) -> Counts:
    """Scores by IoU above 0.5 in file order, as ICDAR2015 and TIoU for CTW1500 do."""
    found = _counted(regions, _simple(detections))
    truths = [_repaired(_shape(region.points)) for region in regions if not region.ignored]
    ious = _ious(_intersections(truths, found), truths, found)
    hits = _greedy(ious > 0.5 + _TIE)
    return Counts(hits, len(truths), hits, len(found))


def _greedy(allowed: np.ndarray) -> int:
    """Counts the matches if each truth in turn takes the first free detection; bool (G, D)."""
    free = np.ones(allowed.shape[1], bool)
    hits = 0
    for row in allowed:
        candidates = np.flatnonzero(row & free)
        if len(candidates):
            free[candidates[0]] = False
            hits += 1
    return hits


def score_ctw1500(regions: Sequence[Region], detections: Sequence[np.ndarray]) -> Counts:
    """Scores like CTW1500's script: a detection can only match the truth of highest IoU."""
    found = _simple(detections)
    truths = [_shape(region.points) for region in regions]
    truths = [shape if shape.is_valid else Polygon() for shape in truths]
    ious = _ious(_intersections(truths, found), truths, found)
    taken = set()
    for column in range(len(found)):
        best = int(np.argmax(ious[:, column])) if truths else -1
        if best >= 0 and ious[best, column] > 0.5 + _TIE and best not in taken:
            taken.add(best)
    return Counts(len(taken), len(truths), len(taken), len(found))


def score_total_text(regions: Sequence[Region], detections: Sequence[np.ndarray]) -> Counts:
    """Scores by DetEval of Total-Text: recall 0.7, precision 0.6, weight 0.8 for splits, merges."""
    shapes = _simple(detections)
    for region in regions:
        if region.ignored and len(region.points) > 1:
            ignored = _repaired(_shape(region.points))
            shapes = [shape for shape in shapes
                      if ignored.intersection(shape).area / (shape.area + 1.0) <= 0.5]
    kept = [_shape(region.points) for region in regions if not region.ignored]
    areas = np.array([shape.area for shape in kept]).reshape(-1, 1)
    common = _intersections([_repaired(shape) for shape in kept], shapes)
    sigma = np.round(np.divide(common, areas, out=np.zeros_like(common), where=areas > 0), 2)
    tau = np.round(common / np.array([shape.area for shape in shapes]).reshape(1, -1), 2)
    passes = _DetEval(sigma, tau)
    passes.one_to_one()
    passes.splits()
    passes.merges()
    return Counts(passes.recall, len(kept), passes.precision, len(shapes))


class _DetEval:
    """The three passes of DetEval over the common shares (G, D) of truths and detections."""

    RECALL, PRECISION, WEIGHT = 0.7, 0.6, 0.8

    def __init__(self, sigma: np.ndarray, tau: np.ndarray):
        self._sigma, self._tau = sigma, tau
        self._truth_used = np.zeros(sigma.shape[0], bool)
        self._found_used = np.zeros(sigma.shape[1], bool)
        self.recall = self.precision = 0.0

    def _match(self, truths, found, recall: float = 1.0, precision: float = 1.0) -> None:
        self._truth_used[truths] = self._found_used[found] = True
        self.recall += recall
        self.precision += precision

    def one_to_one(self) -> None:
        """Matches truths and detections that exceed the bounds only with each other."""
        above_recall, above_precision = self._sigma > self.RECALL, self._tau > self.PRECISION
        for truth in range(len(self._sigma)):
            by_recall = np.flatnonzero(above_recall[truth])
            by_precision = np.flatnonzero(above_precision[truth])
            # As in the published script, the two may be different detections.
            if len(by_recall) == len(by_precision) == 1 and above_recall[
                    :, by_recall[0]].sum() == above_precision[:, by_precision[0]].sum() == 1:
                self._match(truth, by_recall[0])

    def splits(self) -> None:
        """Matches truths that are split into several detections."""
        for truth in np.flatnonzero(~self._truth_used):
            if (self._sigma[truth] > 0).sum() < 2:
                continue
            parts = np.flatnonzero(~self._found_used & (self._tau[truth] >= self.PRECISION))
            enough = self._sigma[truth, parts].sum() >= self.RECALL - _TIE
            if len(parts) == 1 and enough:
                self._match(truth, parts)
            elif len(parts) > 1 and enough:
                self._match(truth, parts, self.WEIGHT, self.WEIGHT * len(parts))

    def merges(self) -> None:
        """Matches detections that merge several truths."""
        for found in np.flatnonzero(~self._found_used):
            if (self._tau[:, found] > 0).sum() < 2:
                continue
            # The bound is that of precision, as in the published Python script.
            parts = np.flatnonzero(~self._truth_used & (self._sigma[:, found] >= self.PRECISION))
            enough = self._tau[parts, found].sum() >= self.PRECISION - _TIE
            if len(parts) == 1 and enough and self._sigma[parts[0], found] >= self.RECALL:
                self._match(parts, found)
            elif len(parts) > 1 and enough:
                self._match(parts, found, self.WEIGHT * len(parts), self.WEIGHT)


class _Box(NamedTuple):
    centre: np.ndarray
    width: float
    height: float
    angle: float    # radians, clockwise on the screen, -pi/4 .. pi/4


def _rotated_box(points: np.ndarray) -> Optional[_Box]:
    """Fits the minimum-area rectangle to points, in the representation of the ground truth."""
    around = Polygon(points).minimum_rotated_rectangle if len(points) > 2 else None
    if around is None or around.geom_type != 'Polygon':
        return None
    corners = np.array(around.exterior.coords[:-1])
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    angle = np.arctan2(first[1], first[0])
    width, height = np.hypot(*first), np.hypot(*second)
    turns = int(np.round(angle / (np.pi / 2)))
    if turns % 2:
        width, height = height, width
    return _Box(corners.mean(axis=0), width, height, angle - turns * np.pi / 2)


def _msra_matches(truth: _Box, found: _Box) -> bool:
    # A rectangle rotated by 90 degrees with swapped sides is the same; near pi/4 it may be closer.
    for turn in (0, np.pi / 2, -np.pi / 2):
        width, height = (found.height, found.width) if turn else (found.width, found.height)
        if abs(found.angle + turn - truth.angle) >= _MSRA_ANGLE:
            continue
        sizes = np.array([(truth.width, truth.height), (width, height)])
        reach = sizes.mean(axis=0) - np.abs(truth.centre - found.centre)
        common = np.prod(np.clip(np.minimum(reach, sizes.min(axis=0)), 0, None))
        union = truth.width * truth.height + width * height - common
        if union > 0 and common / union > 0.5 + _TIE:
            return True
    return False


def score_msra_td500(regions: Sequence[Region], detections: Sequence[np.ndarray]) -> Counts:
    """Scores as in the paper of MSRA-TD500: IoU above 0.5 of unrotated boxes, angle below pi/8.

    A difficult region counts only if it is found.
    """
    found = [box for box in map(_rotated_box, detections) if box is not None]
    free, hits, regions_counted = list(range(len(found))), 0, 0
    for region in regions:
        box = _rotated_box(region.points)
        match = next((index for index in free if box and _msra_matches(box, found[index])), None)
        if match is not None:
            free.remove(match)
            hits += 1
        regions_counted += match is not None or not region.ignored
    return Counts(hits, regions_counted, hits, len(found))


PROTOCOLS: Dict[str, Protocol] = {'iou': score_iou, 'ctw1500': score_ctw1500,
                                  'total_text': score_total_text, 'msra_td500': score_msra_td500}


def score(ground_truth_path: str, results_path: str, protocol: str = 'iou') -> Dict[str, float]:
    """Scores results against ground truth.

    Args:
        ground_truth_path: archive or directory.
        results_path: archive or directory.
        protocol: a name in PROTOCOLS.

    Returns:
        precision, recall and hmean, 0..1.

    Raises:
        ProtocolError: a file is invalid; the message names the file and the line.
    """
    truth = {name: list(_regions(source, data)) for name, source, data in
             _files(ground_truth_path, ('.txt', '.mat', '.gt'))}
    if not truth:
        raise ProtocolError(f'{ground_truth_path} has no ground truth (.txt, .mat or .gt)')
    results = {}
    for name, source, data in _files(results_path, ('.txt',)):
        if name not in truth:
            raise ProtocolError(f'{source}: no ground truth for the image {shown(name)}')
        results[name] = [_detection(f'{source}:{number}', line) for number, line in
                         _lines(source, data)]
    return total([PROTOCOLS[protocol](regions, results.get(name, []))
                  for name, regions in truth.items()])


def total(counts: Sequence[Counts]) -> Dict[str, float]:
    """Computes precision, recall and hmean, 0..1, over all images."""
    recall_sum, regions, precision_sum, detections = map(sum, zip(*counts))
    recall = recall_sum / regions if regions else 0.0
    precision = precision_sum / detections if detections else 0.0
    hmean = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    return {'precision': precision, 'recall': recall, 'hmean': hmean}


def _files(path: str, extensions: Tuple[str, ...]) -> Iterator[Tuple[str, str, bytes]]:
    """Yields image id, name for messages, and contents of each file."""
    seen: Dict[str, str] = {}
    try:
        for name, source, read in _entries(path):
            stem, extension = os.path.splitext(os.path.basename(name))
            if extension.lower() not in extensions or stem.startswith('.'):
                continue
            image = _PREFIX.sub('', os.path.splitext(stem)[0] if stem.lower().endswith(
                ('.jpg', '.png')) else stem, count=1)
            if image in seen:
                raise ProtocolError(f'{source}: duplicate image {shown(image)} ({seen[image]})')
            seen[image] = source
            yield image, source, read()
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ProtocolError(f'{path} cannot be read: '
                            f'{getattr(error, "strerror", None) or error}') from None


def _entries(path: str) -> Iterator[Tuple[str, str, Callable[[], bytes]]]:
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            whole = os.path.join(path, name)
            if os.path.isfile(whole):
                yield name, whole, lambda whole=whole: _bounded(
                    open(whole, 'rb'), whole)  # noqa: SIM115 - closed there
        return
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > MAX_ARCHIVE_BYTES:
            raise ProtocolError(f'{path} exceeds the limits for archives')
        for info in sorted(infos, key=lambda info: info.filename):
            yield info.filename, f'{path}:{info.filename}', (
                lambda info=info: _bounded(archive.open(info), f'{path}:{info.filename}'))


def _bounded(stream, source: str) -> bytes:
    with stream:
        data = stream.read(MAX_ENTRY_BYTES + 1)
    if len(data) > MAX_ENTRY_BYTES:
        raise ProtocolError(f'{source}: larger than {MAX_ENTRY_BYTES} bytes')
    return data


def _lines(source: str, data: bytes) -> Iterator[Tuple[int, str]]:
    for number, line in enumerate(decode(data, source).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _numbers(fields: Sequence[str]) -> List[float]:
    """Parses the leading fields that are numbers."""
    values = []
    for field in fields:
        if not _NUMBER.fullmatch(field):
            break
        values.append(float(field))
    return values


def _regions(source: str, data: bytes) -> Iterator[Region]:
    if source.lower().endswith('.mat'):
        yield from _total_text(source, data)
        return
    for number, line in _lines(source, data):
        where = f'{source}:{number}'
        yield _msra(where, line) if source.lower().endswith('.gt') else _region(where, line)


def _region(where: str, line: str) -> Region:
    points, marked, text = line.partition(',####')
    fields = points.split(',')
    values = _numbers(fields)
    if not marked and len(values) == len(fields) == _CTW1500:
        corner, offsets = values[:2], np.reshape(values[4:], (-1, 2))
        return Region(offsets + corner, False)
    if not marked:
        # The text may contain commas and numbers, such as "$8,888" in ICDAR2015.
        values = _numbers(fields[:-1])
        fields, text = fields[:len(values) // 2 * 2], ','.join(fields[len(values) // 2 * 2:])
        values = values[:len(fields)]
    if len(values) != len(fields) or len(values) % 2 or len(values) < 6:
        raise ProtocolError(f'{where}: expected x1,y1,..,xn,yn,text with three or more points, '
                            f'found {shown(line)}')
    return Region(np.reshape(values, (-1, 2)), text.strip() == '###')


def _detection(where: str, line: str) -> np.ndarray:
    fields = line.split(',')
    values = _numbers(fields)
    if len(values) != len(fields) or len(values) < 6:
        raise ProtocolError(f'{where}: expected x1,y1,..,xn,yn[,score] with three or more points, '
                            f'found {shown(line)}')
    # The last of an odd number of values is the score, which these protocols do not use.
    return np.reshape(values[:len(values) // 2 * 2], (-1, 2))


def _msra(where: str, line: str) -> Region:
    values = _numbers(line.split(None, 7)[:7])
    if len(values) < 7:
        raise ProtocolError(f'{where}: expected index difficult x y w h angle, found {shown(line)}')
    _, difficult, x, y, width, height, angle = values
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Region(corners @ turn + (x + width / 2, y + height / 2), difficult != 0)


def _total_text(source: str, data: bytes) -> Iterator[Region]:
    # Only needed for these files, and slow to import.
    from scipy.io import loadmat
    try:
        content = loadmat(io.BytesIO(data))
        for row in np.atleast_2d(content['polygt' if 'polygt' in content else 'gt']):
            orientation = str(np.ravel(row[5])[0]) if np.size(row[5]) else ''
            yield Region(np.column_stack([np.ravel(row[1]), np.ravel(row[3])]).astype(float),
                         orientation.strip() == '#')
    except Exception as error:  # SciPy raises anything for damaged files, including MemoryError
        detail = ' '.join(str(error).split()) or type(error).__name__
        raise ProtocolError(f'{source}: not a MATLAB file of Total-Text ({detail})') from None


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command; returns its exit code: 0, or 1 after a message on stderr."""
    logging.basicConfig(format='%(levelname)s: %(message)s', stream=sys.stderr)
    summary, examples, forms = __doc__.strip().split('\n\n')
    parser = argparse.ArgumentParser(description=summary, epilog=f'{examples}\n\n{forms}',
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-g', '--gt', required=True, type=os.path.expanduser, metavar='PATH',
                        help='ground truth')
    parser.add_argument('-s', '--submission', required=True, type=os.path.expanduser,
                        metavar='PATH', help='results')
    parser.add_argument('--protocol', choices=sorted(PROTOCOLS), default='iou', help='(iou)')
    arguments = parser.parse_args(argv)
    try:
        result = score(arguments.gt, arguments.submission, arguments.protocol)
    except ProtocolError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    print('Calculated!')
    print(json.dumps(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
