"""A folder of images with ground truth, and the score of the regions found in them.

With an archive of ground truth the scores are those that ``eval.sh`` prints: images take part by
their names, which it has as ``gt_<name>.txt``, and samples of it without an image count as missed.
With a folder of labels of any form that training reads, regions are scored as polygons, by IoU.
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

# Quadrilaterals, or polygons with what marks the ignored ones.
Truths = Dict[str, Union[GroundTruth, List[polygon_script.Region]]]


class Validation(NamedTuple):
    """``images``: id of the sample -> path; ``ground_truth``: id of the sample -> its regions."""

    images: Dict[str, str]
    ground_truth: Truths


def define_ground_truth_flag() -> None:
    """Defines ``--gt``."""
    define_path('gt', './evaluation/gt.zip', 'Ground truth of the images: a zip archive '
                'with gt_<image>.txt (tools.make_gt_zip), scored as ICDAR2015 does; or a folder of '
                'labels of any form (docs/data.md), scored as polygons by IoU.', **group('files'))


def open_validation(folder: str, ground_truth_path: str) -> Validation:
    """Reads the ground truth and finds the images that it belongs to.

    Args:
        folder: with the images; those that are not named as the ground truth's are
            (``img_<number>`` in ICDAR2015's) are left out with a warning.
        ground_truth_path: zip archive, or folder of labels.

    Returns:
        Both.

    Raises:
        PSENetError: one of them cannot be used, or they do not belong together.
    """
    stems = images_by_stem(folder)
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
        raise PSENetError(f'--test_data_path={folder} holds no image that is named img_<number>, '
                          f'as those of {ground_truth_path} are; scoring goes by these names')
    _check(images, ground_truth, ground_truth_path, len(stems))
    return Validation(images, ground_truth)


def _open_labels(images: Dict[str, str], folder: str) -> Validation:
    """Ids are the images' names without extension."""
    listing, dataset = open_listing(folder, AUTO, labels_only=True)
    form = DATASETS[dataset]
    if dataset == SYNTHTEXT:
        raise PSENetError(f'--gt={folder}: SynthText is for training; convert the labels that are '
                          'wanted with tools.convert_labels')
    truth: Truths = {}
    for each in pair(listing, form).pairs:
        regions = each.read()
        truth[splitext(basename(each.image_path))[0]] = [
            polygon_script.Region(polygon.astype(np.float64), bool(ignored))
            for polygon, ignored in zip(regions.polygons, regions.ignore_tags) if len(polygon) > 2]
    _check(images, truth, folder, len(images))
    return Validation(images, truth)


def sample_id(stem: str, parameters: Parameters = DEFAULT_PARAMETERS) -> Optional[str]:
    """The id by which scoring knows the result file of an image; None where it takes no such file.

    Args:
        stem: the image's name without its extension.
        parameters: has the pattern of names.
    """
    found = re.fullmatch(parameters.DET_SAMPLE_NAME_2_ID, basename(result_path('', stem)))
    return found and found.group(1)


def _check(images: Dict[str, str], ground_truth: Truths, path: str, found: int) -> None:
    for image_id, image in images.items():
        if image_id not in ground_truth:
            stem = splitext(basename(image))[0]
            raise PSENetError(f'{path} has no sample gt_{stem}.txt for the image {image}; take the '
                              'ground truth of these images')
    if found > len(images):
        logger.warning('%d of %d images are not named img_<number> and are left out',
                       found - len(images), found)
    if len(ground_truth) > len(images):
        logger.warning('%d of the %d samples of %s have no image here: their regions count as '
                       'missed', len(ground_truth) - len(images), len(ground_truth), path)


def digest_of_truth(path: str) -> str:
    """Identifies ground truth by what it holds, an archive or the files of a folder.

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
    """Ends a run on an image that could not be read, as a score without it would mislead.

    Raises:
        PSENetError: it could not.
    """
    if image.error:
        raise PSENetError(f'{image.error}; nothing is scored: mend or remove the image')


def score_detector(detector: Detector, validation: Validation, read: Read,
                   after_image: Callable[[], None]) -> Score:
    """Finds the boxes in all images and scores them.

    Args:
        detector: finds them.
        validation: images and ground truth.
        read: reads an image file, as ``image_reader`` makes it.
        after_image: called whenever an image is done; what it raises ends the run.

    Returns:
        The score over all samples.

    Raises:
        PSENetError: an image cannot be read, or the detector cannot go on.
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
    """Scores regions as the protocol does the result files that hold them.

    Args:
        ground_truth: regions by id of the sample.
        boxes: int32 (N, 4, 2), x, y, clockwise, by id of the sample; where the ground truth has
            polygons, also a list of int32 (P, 2).

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
