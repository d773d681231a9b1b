"""The trained network with everything around it: image -> text boxes."""

from typing import Sequence

import numpy as np

from inference.input_sizes import Size
from inference.postprocess import detect, to_original
from inference.preprocess import NetworkInput, network_size, prepare_image
from inference.score_network import ScoreNetwork
from inference.tiles import tiled_score_maps
from utils.utils_tool import cfg, logger


class Detector:
    """Finds text with one network; a context manager that closes it."""

    def __init__(
        self,
        network: ScoreNetwork,
        seg_map_thresh: float = 0.9,
        min_area_thresh: int = 6,
        max_side_len: int = 2400,
        input_sizes: Sequence[Size] = (),
        min_box_side: int = 0,
        tile: bool = False,
    ):
        """Takes the network over.

        Args:
            network: what ``inference.engines.open_network`` has opened, or anything like it.
            seg_map_thresh: a pixel belongs to a kernel where its score is above this, 0..1.
            min_area_thresh: seeds with fewer score-map pixels are dropped.
            max_side_len: longer images are shrunk to this many pixels.
            input_sizes: (width, height) of what the network takes, smallest first; empty where any
                size will do.
            min_box_side: boxes with a shorter side, in pixels of the image, are dropped.
            tile: run the network on tiles of longer images instead of shrinking them.
        """
        self._network = network
        self._seg_map_thresh = seg_map_thresh
        self._min_area_thresh = min_area_thresh
        self._max_side_len = max_side_len
        self._min_box_side = min_box_side
        self._sizes = input_sizes
        self._tile_side = max_side_len // cfg.SIDE_MULTIPLE * cfg.SIDE_MULTIPLE if tile else 0
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
            What ``score_maps`` and ``find_boxes`` take.
        """
        if self._tile_side:
            return prepare_image(image_bgr, max(image_bgr.shape[:2]))
        self._warn_of_shrinking(image_bgr.shape[1::-1])
        return prepare_image(image_bgr, self._max_side_len, self._sizes)

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image; see ``ScoreNetwork.score_maps``."""
        if self._tile_side:
            return tiled_score_maps(self._network.score_maps, image_rgb, self._tile_side)
        return self._network.score_maps(image_rgb)

    def find_boxes(self, score_maps: np.ndarray, prepared: NetworkInput,
                   image_size: Size) -> np.ndarray:
        """Turns score maps into boxes.

        Args:
            score_maps: float32 (h, w, 6), 0..1, smallest kernel first. Unchanged.
            prepared: what they were made from.
            image_size: (width, height) of the original image.

        Returns:
            int32 (N, 4, 2), x, y in pixels of the original image, clockwise.
        """
        quads = detect(score_maps, prepared.image_rgb.shape[1::-1], self._seg_map_thresh,
                       self._min_area_thresh)
        return to_original(quads, prepared.ratios, image_size, self._min_box_side)

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
        score_maps = self.score_maps(prepared.image_rgb)
        return self.find_boxes(score_maps, prepared, image_bgr.shape[1::-1])

    def _warn_of_shrinking(self, image_size: Size) -> None:
        allowed = network_size(image_size, self._max_side_len)
        if self._warned or network_size(image_size, self._max_side_len, self._sizes) == allowed:
            return
        self._warned = True
        logger.warning('an image of %dx%d pixels fits none of --npu_input_sizes: it, and any other '
                       'like it, is shrunk until it does, which loses small text', *image_size)
