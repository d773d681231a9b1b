"""A folder of images with ground truth, and the score of the boxes found in them.

The scores are those that ``eval.sh`` prints: images take part by their names, which the ground
truth has as ``gt_<name>.txt``, and samples of it without an image count as missed.
"""

import re
from os.path import basename, splitext
from typing import Callable, Dict, NamedTuple, Optional

import numpy as np

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
from utils.errors import PSENetError
from utils.utils_tool import logger


class Validation(NamedTuple):
    """``images``: id of the sample -> path; ``ground_truth``: id of the sample -> its regions."""

    images: Dict[str, str]
    ground_truth: Dict[str, GroundTruth]


def define_ground_truth_flag() -> None:
    """Defines ``--gt``."""
    define_path('gt', './evaluation/gt.zip', 'Ground truth of the images: a zip archive '
                'with gt_<image>.txt (tools.make_gt_zip).', **group('files'))


def open_validation(folder: str, ground_truth_path: str) -> Validation:
    """Reads the ground truth and finds the images that it belongs to.

    Args:
        folder: with the images; those that are not named as the ground truth's are
            (``img_<number>`` in ICDAR2015's) are left out with a warning.
        ground_truth_path: zip archive.

    Returns:
        Both.

    Raises:
        PSENetError: one of them cannot be used, or they do not belong together.
    """
    stems = images_by_stem(folder)
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


def sample_id(stem: str, parameters: Parameters = DEFAULT_PARAMETERS) -> Optional[str]:
    """The id by which scoring knows the result file of an image; None where it takes no such file.

    Args:
        stem: the image's name without its extension.
        parameters: has the pattern of names.
    """
    found = re.fullmatch(parameters.DET_SAMPLE_NAME_2_ID, basename(result_path('', stem)))
    return found and found.group(1)


def _check(images: Dict[str, str], ground_truth: Dict[str, GroundTruth], path: str,
           found: int) -> None:
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
    boxes: Dict[str, np.ndarray] = {}

    def keep(image: FolderImage, score_maps: Optional[np.ndarray]) -> None:
        refuse_unreadable(image)
        boxes[image.stem] = detector.find_regions(score_maps, image.prepared.geometry).quads
        after_image()

    run_network(detector, validation.images, keep, read)
    return score_boxes(validation.ground_truth, boxes)


def score_boxes(ground_truth: Dict[str, GroundTruth], boxes: Dict[str, np.ndarray]) -> Score:
    """Scores boxes as the protocol does the result files that hold them.

    Args:
        ground_truth: regions by id of the sample.
        boxes: int32 (N, 4, 2), x, y, clockwise, by id of the sample.

    Returns:
        The score over all samples.
    """
    detections = {image_id: Detections(quads.astype(np.int64), np.ones(len(quads)))
                  for image_id, quads in boxes.items()}
    return evaluate(ground_truth, detections, DEFAULT_PARAMETERS).score
