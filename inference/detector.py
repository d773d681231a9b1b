"""The trained network with everything around it: image -> text boxes."""

import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from inference.postprocess import detect, to_original
from inference.preprocess import prepare_image
from nets.model import model
from training.checkpoint import resolve_checkpoint, restore_for_inference
from utils.errors import PSENetError
from utils.tf_env import warn_of_missing_gpus


class Detection(NamedTuple):
    """What was found in one image.

    boxes: int32 (N, 4, 2), x, y in pixels of the image, clockwise.
    net_seconds: time in the network.
    post_seconds: time from score maps to boxes.
    """

    boxes: np.ndarray
    net_seconds: float
    post_seconds: float


class Detector:
    """Finds text with the weights of one checkpoint; a context manager that frees the session."""

    def __init__(
        self,
        checkpoint_path: str,
        seg_map_thresh: float = 0.9,
        min_area_thresh: int = 6,
        max_side_len: int = 2400,
        gpu_list: str = '',
    ):
        """Builds the network and loads its weights.

        Args:
            checkpoint_path: a folder, a prefix, or one of a checkpoint's files.
            seg_map_thresh: a pixel belongs to a kernel where its score is above this, 0..1.
            min_area_thresh: seeds with fewer score-map pixels are dropped.
            max_side_len: longer images are shrunk to this many pixels.
            gpu_list: GPUs that were asked for; a warning tells when TensorFlow does not see them.

        Raises:
            PSENetError: the checkpoint is missing, damaged or of another network.
        """
        prefix = resolve_checkpoint(checkpoint_path)
        self._seg_map_thresh = seg_map_thresh
        self._min_area_thresh = min_area_thresh
        self._max_side_len = max_side_len
        with tf.Graph().as_default() as graph:
            self._images = tf.placeholder(tf.uint8, [None, None, None, 3], name='input_images')
            self._score_maps = model(tf.to_float(self._images), is_training=False)
        config = tf.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
        self._session = tf.Session(graph=graph, config=config)
        try:
            warn_of_missing_gpus(
                gpu_list, [device.device_type for device in self._session.list_devices()])
            restore_for_inference(self._session, prefix)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> 'Detector':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Frees the session; nothing can be detected any more."""
        self._session.close()

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image.

        Args:
            image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32.

        Returns:
            float32 (H/4, W/4, 6), 0..1, smallest kernel first.

        Raises:
            PSENetError: the device has too little memory for an image of this size.
        """
        try:
            return self._session.run(self._score_maps, {self._images: image_rgb[np.newaxis]})[0]
        except tf.errors.ResourceExhaustedError:
            height, width = image_rgb.shape[:2]
            raise PSENetError(f'too little memory for an image of {width}x{height} pixels; lower '
                              '--max_side_len') from None

    def detect(self, image_bgr: np.ndarray) -> Detection:
        """Finds the text in one image of any size.

        Args:
            image_bgr: uint8 (H, W, 3), BGR. Unchanged.

        Returns:
            Boxes in pixels of the image, and the times taken.

        Raises:
            PSENetError: the device has too little memory; lower max_side_len.
        """
        image_rgb, ratios = prepare_image(image_bgr, self._max_side_len)
        start = time.perf_counter()
        score_maps = self.score_maps(image_rgb)
        scored = time.perf_counter()
        quads = detect(score_maps, image_rgb.shape[1::-1], self._seg_map_thresh,
                       self._min_area_thresh)
        boxes = to_original(quads, ratios, image_bgr.shape[1::-1])
        return Detection(boxes, scored - start, time.perf_counter() - scored)
