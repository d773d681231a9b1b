"""TensorBoard events written from Python: scalars of a step, and images of its first sample.

The graph has no summary ops: string ops cannot run on every device, and a second fetch list would
compute the step twice.
"""

import time
from typing import Dict

import cv2
import numpy as np
import tensorflow as tf

from training.run_folder import EVENTS_SUFFIX


class SummaryWriter:
    """Writes the events of a run into a directory; a restarted run continues the same curves."""

    def __init__(self, directory: str, first_step: int):
        """Opens a new event file.

        Args:
            directory: for the file.
            first_step: the step at which training starts; TensorBoard discards later points of an
                earlier process.
        """
        # TensorFlow's file names have a resolution of a second, so a restarted run could overwrite
        # the file of the one before. With this suffix, later files still sort after earlier ones.
        suffix = f'.{time.time_ns():019}{EVENTS_SUFFIX}'
        self._writer = tf.summary.FileWriter(directory, filename_suffix=suffix)
        started = tf.SessionLog(status=tf.SessionLog.START)
        self._writer.add_session_log(started, global_step=first_step + 1)

    def add_scalars(self, step: int, scalars: Dict[str, float]) -> None:
        """Adds one point to each named curve."""
        self._add(step, [tf.Summary.Value(tag=tag, simple_value=float(value))
                         for tag, value in scalars.items()])

    def add_images(self, step: int, images: Dict[str, np.ndarray]) -> None:
        """Adds images, uint8 (H, W) or RGB (H, W, 3), as PNG."""
        self._add(step, [tf.Summary.Value(tag=tag, image=_encode(image))
                         for tag, image in images.items()])

    def _add(self, step: int, values) -> None:
        self._writer.add_summary(tf.Summary(value=values), step)
        self._writer.flush()

    def __enter__(self) -> 'SummaryWriter':
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self._writer.close()


def _encode(image: np.ndarray) -> tf.Summary.Image:
    channels = 1 if image.ndim == 2 else image.shape[2]
    bgr = image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode('.png', bgr)[1].tobytes()
    return tf.Summary.Image(height=image.shape[0], width=image.shape[1], colorspace=channels,
                            encoded_image_string=encoded)


def map_image(seg_map: np.ndarray) -> np.ndarray:
    """Renders kernel maps as one gray image: their mean, in which each kernel is a step brighter.

    Args:
        seg_map: float32 (H, W, C), 0..1.

    Returns:
        uint8 (H, W).
    """
    return np.uint8(np.clip(seg_map.mean(axis=-1), 0, 1) * 255)
