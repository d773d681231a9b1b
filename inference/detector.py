"""Text detector: a trained network with pre- and post-processing, image -> text regions.

Some devices compile the network for a few fixed input sizes. Images are then resized as for any
other device, and padded on the right and at the bottom to the next size; scores of the padding are
cut off. At more than about 130 pixels from a padded edge the scores differ by less than 0.001.
"""

import os
from typing import Any, Dict, NamedTuple, Sequence, Union

import cv2
import numpy as np

from inference.config import DetectConfig, Size, validate
from inference.networks import GPU_OR_CPU, Platform, ScoreNetwork, next_size, open_network
from inference.postprocess import Geometry, Regions, find_regions
from inference.thresholds import follow_thresholds
from inference.tiles import tiled_score_maps
from utils.errors import PSENetError, lack_of_tensorflow
from utils.utils_tool import cfg, logger


class NetworkInput(NamedTuple):
    """Input of the network, and the geometry that maps results back to the image.

    image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.
    geometry: sizes of the input and of the original image.
    """

    image_rgb: np.ndarray
    geometry: Geometry


def network_size(image_size: Size, max_side_len: int, sizes: Sequence[Size] = (),
                 scale: float = 1.0) -> Size:
    """Computes the size of the network's input for an image.

    Args:
        image_size: (width, height) of the original image.
        max_side_len: longer images are shrunk to this, keeping their aspect ratio.
        sizes: fixed input sizes, if any. An image that fits none of them is shrunk as little as
            possible, keeping its aspect ratio.
        scale: requested scale, limited by max_side_len; above 1 it upsamples.

    Returns:
        (width, height), rounded up to multiples of 32; a side may exceed max_side_len by up to 31,
        and the aspect ratio may change slightly.
    """
    size = _scaled(image_size, min(scale, max_side_len / max(image_size)))
    if not sizes or next_size(size, sizes):
        return size
    return _scaled(image_size, max(min(one[0] / image_size[0], one[1] / image_size[1])
                                   for one in sizes))


def _scaled(image_size: Size, scale: float) -> Size:
    multiple = cfg.SIDE_MULTIPLE
    width, height = (-(-max(1, int(side * scale)) // multiple) * multiple for side in image_size)
    return width, height


def prepare_image(image_bgr: np.ndarray, max_side_len: int, sizes: Sequence[Size] = (),
                  scale: float = 1.0) -> NetworkInput:
    """Resizes an image bilinearly to its network size and converts it to RGB.

    Args:
        image_bgr: uint8 (H, W, 3), BGR, not empty. Unchanged.
        max_side_len: as for ``network_size``.
        sizes: as for ``network_size``.
        scale: as for ``network_size``.
    """
    height, width = image_bgr.shape[:2]
    size = network_size((width, height), max_side_len, sizes, scale)
    resized = cv2.resize(image_bgr, size, interpolation=cv2.INTER_LINEAR)
    image_rgb = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return NetworkInput(image_rgb, Geometry(size, (width, height)))


class Detector:
    """Finds text with one network; a context manager that closes the network.

    Attributes:
        thresholds: thresholds of post-processing.
        sizes: fixed (width, height) of the network's input; empty if any size will do.
    """

    def __init__(self, network: ScoreNetwork, config: DetectConfig,
                 input_sizes: Sequence[Size] = ()):
        """Takes ownership of the network.

        Args:
            network: network from ``inference.networks.open_network``, or a compatible object.
            config: thresholds, limits of size, and tiling; other fields are not used.
            input_sizes: fixed (width, height) of the network's input, smallest first; empty if any
                size will do.
        """
        self.thresholds = config.thresholds
        self._network = network
        self._config = config
        self.sizes = input_sizes or getattr(network, 'input_sizes', ())
        tile_side = config.max_side_len // cfg.SIDE_MULTIPLE * cfg.SIDE_MULTIPLE
        self._tile_side = tile_side if config.tile else 0
        self._warned = self._told = False

    def __enter__(self) -> 'Detector':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Closes the network."""
        self._network.close()

    def prepare(self, image_bgr: np.ndarray) -> NetworkInput:
        """Prepares an image of any size for the network.

        Args:
            image_bgr: uint8 (H, W, 3), BGR. Unchanged.

        Returns:
            The input of ``score_maps``, and the geometry for ``find_regions``.
        """
        image_size = image_bgr.shape[1::-1]
        scale = self._config.scale_of(image_size)
        if self._tile_side:
            prepared = prepare_image(image_bgr, int(max(1.0, scale) * max(image_size)) + 1, (),
                                     scale)
        else:
            self._warn_of_shrinking(image_size, scale)
            prepared = prepare_image(image_bgr, self._config.max_side_len, self.sizes, scale)
        self._tell_cost(prepared.geometry)
        return prepared

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image; see ``ScoreNetwork.score_maps``."""
        if self._tile_side:
            return tiled_score_maps(self._network.score_maps, image_rgb, self._tile_side)
        return self._network.score_maps(image_rgb)

    def detect(self, image_bgr: np.ndarray) -> Regions:
        """Finds the text in one image of any size.

        Args:
            image_bgr: uint8 (H, W, 3), BGR. Unchanged.

        Returns:
            Polygons, quads and scores, in pixels of the image.

        Raises:
            PSENetError: the device has too little memory; lower max_side_len.
        """
        prepared = self.prepare(image_bgr)
        return self.find_regions(self.score_maps(prepared.image_rgb), prepared.geometry)

    def find_regions(self, score_maps: np.ndarray, geometry: Geometry) -> Regions:
        """Converts score maps to quadrilaterals or polygons, depending on the configuration.

        Args:
            score_maps: float32 (h, w, 6), 0..1, smallest kernel first. Unchanged.
            geometry: sizes of the image.

        Returns:
            As ``detect``.
        """
        return find_regions(score_maps, geometry, self.thresholds, self._config.tolerance)

    def _tell_cost(self, geometry: Geometry) -> None:
        """Logs, for the first image, the cost of a requested size."""
        if self._told or not (self._config.short_side or self._config.long_side):
            return
        self._told = True
        (width, height), own = geometry.input_size, geometry.image_size
        logger.info('an image of %dx%d pixels goes into the network at %dx%d, %.1f times the work '
                    'of its own size', *own, width, height, width * height / (own[0] * own[1]))

    def _warn_of_shrinking(self, image_size: Size, scale: float) -> None:
        limit = self._config.max_side_len
        fits = network_size(image_size, limit, (), scale) == network_size(
            image_size, limit, self.sizes, scale)
        if self._warned or fits:
            return
        self._warned = True
        logger.warning('an image of %dx%d pixels does not fit --npu_input_sizes or the input size '
                       'of --model; such images are shrunk, which loses small text', *image_size)


def open_detector(source: Union[str, DetectConfig], platform: Platform = GPU_OR_CPU,
                  **settings: Any) -> Detector:
    """Opens a detector.

    With an .onnx file, several threads may use it at once.

    Args:
        source: path of an exported model or a checkpoint, whose stored thresholds are used; or a
            configuration, which is used unchanged.
        platform: device on which TensorFlow runs the network.
        settings: fields of DetectConfig, such as ``output_shape='polygon'``; only with a path.

    Returns:
        The detector; a context manager that closes the network.

    Raises:
        PSENetError: see ``open_network``; also if a setting is invalid or TensorFlow is not
            installed.
    """
    try:
        config = source if isinstance(source, DetectConfig) else _config_of(source, settings)
        return Detector(open_network(config, platform), config, platform.input_sizes)
    except ModuleNotFoundError as error:
        sentence = lack_of_tensorflow(error)
        if not sentence:
            raise
        raise PSENetError(sentence) from None


def _config_of(path: str, settings: Dict[str, Any]) -> DetectConfig:
    is_onnx = path.lower().endswith('.onnx')
    is_model = is_onnx or path.lower().endswith('.pb') or os.path.isfile(
        os.path.join(path, 'saved_model.pb'))
    config = DetectConfig(**{'engine': 'onnx' if is_onnx else 'tensorflow',
                             'model' if is_model else 'checkpoint_path': path, **settings})
    validate(config)
    return follow_thresholds(config, settings)
