"""TensorBoard events written from Python: scalars of a step, and pictures of its first sample.

No summary op stands in the graph: string ops cannot run on every device, and a second fetch list
would compute the step twice.
"""

import time
from typing import Dict

import cv2
import numpy as np
import tensorflow as tf

from training.run_folder import EVENTS_SUFFIX


class SummaryWriter:
    """Writes events of one run into a folder; a restarted run goes on in the same curves."""

    def __init__(self, folder: str, first_step: int):
        """Opens a new event file.

        Args:
            folder: where it goes.
            first_step: the step that training starts from; what an earlier process wrote beyond it
                is marked as void.
        """
        # TensorFlow names the file by the second, and would write over that of a run that ended
        # within the same one. Later files still sort behind earlier ones.
        suffix = f'.{time.time_ns():019}{EVENTS_SUFFIX}'
        self._writer = tf.summary.FileWriter(folder, filename_suffix=suffix)
        started = tf.SessionLog(status=tf.SessionLog.START)
        self._writer.add_session_log(started, global_step=first_step + 1)

    def add_scalars(self, step: int, scalars: Dict[str, float]) -> None:
        """Adds one point to each named curve."""
        self._add(step, [tf.Summary.Value(tag=tag, simple_value=float(value))
                         for tag, value in scalars.items()])

    def add_pictures(self, step: int, pictures: Dict[str, np.ndarray]) -> None:
        """Adds pictures, uint8 (H, W) or RGB (H, W, 3), as PNG."""
        self._add(step, [tf.Summary.Value(tag=tag, image=_encode(picture))
                         for tag, picture in pictures.items()])

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


def _encode(picture: np.ndarray) -> tf.Summary.Image:
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    bgr = picture if channels == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode('.png', bgr)[1].tobytes()
    return tf.Summary.Image(height=picture.shape[0], width=picture.shape[1], colorspace=channels,
                            encoded_image_string=encoded)


def map_picture(seg_map: np.ndarray) -> np.ndarray:
    """Kernel maps as one grey picture: the mean over the kernels, so that each shows as a step.

    Args:
        seg_map: float32 (H, W, C), 0..1.

    Returns:
        uint8 (H, W).
    """
    return np.uint8(np.clip(seg_map.mean(axis=-1), 0, 1) * 255)
