"""The trained network with everything around it: image -> text boxes."""

from typing import Sequence

import numpy as np

from inference.config import DetectConfig
from inference.networks import GPU_OR_CPU, Platform, ScoreNetwork, open_network
from inference.postprocess import find_boxes
from inference.preprocess import NetworkInput, Size, network_size, prepare_image
from inference.tiles import tiled_score_maps
from utils.utils_tool import cfg, logger


class Detector:
    """Finds text with one network; a context manager that closes it."""

    def __init__(self, network: ScoreNetwork, config: DetectConfig,
                 input_sizes: Sequence[Size] = ()):
        """Takes the network over.

        Args:
            network: what ``inference.engines.open_network`` has opened, or anything like it.
            config: thresholds, limits of size, and whether to tile; nothing else counts.
            input_sizes: (width, height) of what the network takes, smallest first; empty where any
                size will do.
        """
        self.thresholds = config.thresholds
        self._network = network
        self._config = config
        self._sizes = input_sizes
        tile_side = config.max_side_len // cfg.SIDE_MULTIPLE * cfg.SIDE_MULTIPLE
        self._tile_side = tile_side if config.tile else 0
        self._warned = False

    def __enter__(self) -> 'Detector':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Closes the network; nothing can be detected any more."""
        self._network.close()

    def prepare(self, image_bgr: np.ndarray) -> NetworkInput:
        """Makes an image of any size ready for the network.

        Args:
            image_bgr: uint8 (H, W, 3), BGR. Unchanged.

        Returns:
            What ``score_maps`` takes, and the geometry for ``find_boxes``.
        """
        if self._tile_side:
            return prepare_image(image_bgr, max(image_bgr.shape[:2]))
        self._warn_of_shrinking(image_bgr.shape[1::-1])
        return prepare_image(image_bgr, self._config.max_side_len, self._sizes)

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image; see ``ScoreNetwork.score_maps``."""
        if self._tile_side:
            return tiled_score_maps(self._network.score_maps, image_rgb, self._tile_side)
        return self._network.score_maps(image_rgb)

    def detect(self, image_bgr: np.ndarray) -> np.ndarray:
        """Finds the text in one image of any size.

        Args:
            image_bgr: uint8 (H, W, 3), BGR. Unchanged.

        Returns:
            int32 (N, 4, 2), x, y in pixels of the image, clockwise.

        Raises:
            PSENetError: the device has too little memory; lower max_side_len.
        """
        prepared = self.prepare(image_bgr)
        return find_boxes(self.score_maps(prepared.image_rgb), prepared.geometry, self.thresholds)

    def _warn_of_shrinking(self, image_size: Size) -> None:
        limit = self._config.max_side_len
        fits = network_size(image_size, limit) == network_size(image_size, limit, self._sizes)
        if self._warned or fits:
            return
        self._warned = True
        logger.warning('an image of %dx%d pixels fits none of --npu_input_sizes: it, and any other '
                       'like it, is shrunk until it does, which loses small text', *image_size)


def open_detector(config: DetectConfig, platform: Platform = GPU_OR_CPU) -> Detector:
    """Opens the network of a configuration with its thresholds and limits around it.

    Args:
        config: of the run.
        platform: where TensorFlow is to run the network, and which sizes of input that allows.

    Returns:
        The detector; a context manager that closes the network.

    Raises:
        PSENetError: as ``open_network``.
    """
    return Detector(open_network(config, platform), config, platform.input_sizes)
