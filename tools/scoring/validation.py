"""Images with ground truth, and the score of the regions found in them.

With an archive of ground truth the scores are those of ``eval.sh``: images are matched by name with
entries ``gt_<name>.txt``, and entries without an image count as missed. With a directory of labels,
in any format that training reads, regions are scored as polygons by IoU.
"""

import hashlib
import os
import re
from os.path import basename, isdir, splitext
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from evaluation import polygon_script
from evaluation.parameters import DEFAULT_PARAMETERS, Parameters, ProtocolError
from evaluation.protocol import (
    Detections,
    GroundTruth,
    read_ground_truth,
    with_names_of,
)
from evaluation.report import Score, evaluate
from inference.detector import Detector
from inference.folder import FolderImage, Read, images_by_stem, run_network
from inference.results import result_path
from utils.cli import define_path, group
from utils.data_provider.datasets import open_listing
from utils.data_provider.pairing import AUTO, DATASETS, SYNTHTEXT, pair
from utils.errors import PSENetError
from utils.files import file_digest
from utils.utils_tool import logger

# Sample id -> quadrilaterals, or polygons with their ignore tags.
Truths = Dict[str, Union[GroundTruth, List[polygon_script.Region]]]


class Validation(NamedTuple):
    """``images``: sample id -> path; ``ground_truth``: sample id -> regions."""

    images: Dict[str, str]
    ground_truth: Truths


def define_ground_truth_flag() -> None:
    """Defines ``--gt``."""
    define_path('gt', './evaluation/gt.zip', 'Ground truth of the images: a zip archive '
                'of gt_<image>.txt (tools.make_gt_zip), scored by the ICDAR2015 protocol, or a '
                'directory of labels in any format (docs/data.md), scored as polygons by IoU.',
                **group('files'))


def open_validation(directory: str, ground_truth_path: str) -> Validation:
    """Reads the ground truth and finds its images.

    Args:
        directory: contains the images; those without a name as in the ground truth
            (``img_<number>`` for ICDAR2015) are skipped with a warning.
        ground_truth_path: zip archive, or directory of labels.

    Raises:
        PSENetError: images or ground truth cannot be used, or they do not match.
    """
    stems = images_by_stem(directory)
    if isdir(ground_truth_path):
        return _open_labels(stems, ground_truth_path)
    try:
        parameters = with_names_of(ground_truth_path, DEFAULT_PARAMETERS)
        ground_truth = read_ground_truth(ground_truth_path, parameters)
    except ProtocolError as error:
        raise PSENetError(str(error)) from None
    ids = {stem: sample_id(stem, parameters) for stem in stems}
    images = {ids[stem]: path for stem, path in stems.items() if ids[stem]}
    if not images:
        raise PSENetError(f'--test_data_path={directory} has no image named img_<number>, as in '
                          f'{ground_truth_path}; images are matched by these names')
    _check(images, ground_truth, ground_truth_path, len(stems))
    return Validation(images, ground_truth)


def _open_labels(images: Dict[str, str], directory: str) -> Validation:
    """Reads a directory of labels; sample ids are the images' names without extension."""
    listing, dataset = open_listing(directory, AUTO, labels_only=True)
    if dataset == SYNTHTEXT:
        raise PSENetError(f'--gt={directory}: SynthText is for training; convert the required '
                          'labels with tools.convert_labels')
    truth: Truths = {}
    for each in pair(listing, DATASETS[dataset]).pairs:
        regions = each.read()
        truth[splitext(basename(each.image_path))[0]] = [
            polygon_script.Region(polygon.astype(np.float64), bool(ignored))
            for polygon, ignored in zip(regions.polygons, regions.ignore_tags) if len(polygon) > 2]
    _check(images, truth, directory, len(images))
    return Validation(images, truth)


def sample_id(stem: str, parameters: Parameters = DEFAULT_PARAMETERS) -> Optional[str]:
    """Returns the sample id of an image's result file; None if scoring does not accept its name.

    Args:
        stem: the image's name without extension.
        parameters: parameters with the pattern of names.
    """
    found = re.fullmatch(parameters.DET_SAMPLE_NAME_2_ID, basename(result_path('', stem)))
    return found and found.group(1)


def _check(images: Dict[str, str], ground_truth: Truths, path: str, found: int) -> None:
    for image_id, image in images.items():
        if image_id not in ground_truth:
            stem = splitext(basename(image))[0]
            raise PSENetError(f'{path} has no sample gt_{stem}.txt for the image {image}; use the '
                              'ground truth of these images')
    if found > len(images):
        logger.warning('%d of %d images are not named img_<number> and are skipped',
                       found - len(images), found)
    if len(ground_truth) > len(images):
        logger.warning('%d of the %d samples of %s have no image: their regions count as missed',
                       len(ground_truth) - len(images), len(ground_truth), path)


def digest_of_truth(path: str) -> str:
    """Content hash of an archive, or of the files in a directory of labels.

    Raises:
        PSENetError: it cannot be read.
    """
    try:
        if not isdir(path):
            return file_digest(path)
        names = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
        parts = [f'{basename(name)} {file_digest(name)}' for name in names]
    except OSError as error:
        raise PSENetError(f'{path} cannot be read ({error.strerror})') from None
    return hashlib.sha256('\n'.join(parts).encode('utf-8', 'surrogateescape')).hexdigest()[:32]


def refuse_unreadable(image: FolderImage) -> None:
    """Stops a run at an unreadable image, as a score without it would be misleading.

    Raises:
        PSENetError: the image could not be read.
    """
    if image.error:
        raise PSENetError(f'{image.error}; nothing is scored: repair or remove the image')


def score_detector(detector: Detector, validation: Validation, read: Read,
                   after_image: Callable[[], None]) -> Score:
    """Finds the regions in all images and scores them.

    Args:
        detector: the detector.
        validation: images and ground truth.
        read: reads an image file; see ``image_reader``.
        after_image: called after each image; its exceptions end the run.

    Returns:
        The score over all samples.

    Raises:
        PSENetError: an image cannot be read, or the detector failed.
    """
    boxes: Dict[str, Sequence[np.ndarray]] = {}
    as_polygons = _has_polygons(validation.ground_truth)

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        regions = detector.find_regions(score_maps, image.prepared.geometry)
        boxes[image.stem] = regions.polygons if as_polygons else regions.quads
        after_image()

    run_network(detector, validation.images, keep, read)
    return score_boxes(validation.ground_truth, boxes)


def _has_polygons(ground_truth: Truths) -> bool:
    return isinstance(next(iter(ground_truth.values()), None), list)


def score_boxes(ground_truth: Truths, boxes: Dict[str, Sequence[np.ndarray]]) -> Score:
    """Scores regions as the protocol scores their result files.

    Args:
        ground_truth: sample id -> regions.
        boxes: sample id -> int32 (N, 4, 2), x, y, clockwise; for ground truth of polygons also a
            list of int32 (P, 2).

    Returns:
        The score over all samples.
    """
    if _has_polygons(ground_truth):
        totals = polygon_script.total([
            polygon_script.score_iou(regions, boxes.get(image_id, ()))
            for image_id, regions in ground_truth.items()])
        return Score(AP=0.0, **totals)
    detections = {image_id: Detections(quads.astype(np.int64), np.ones(len(quads)))
                  for image_id, quads in boxes.items()}
    return evaluate(ground_truth, detections, DEFAULT_PARAMETERS).score
