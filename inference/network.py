"""The trained network in a session of its own: image -> score maps."""

from typing import Dict, Optional, Tuple

import numpy as np
import tensorflow as tf

from inference.input_sizes import Size, next_size, pad_image
from inference.platform import GPU_OR_CPU, Platform
from inference.sessions import SessionNetwork
from nets.model import model
from training.checkpoint import resolve_checkpoint, restore_for_inference
from utils.utils_tool import cfg


class Network(SessionNetwork):
    """One checkpoint's weights, and the graph that they stand in."""

    def __init__(self, checkpoint_path: str, platform: Platform = GPU_OR_CPU):
        """Builds the network and loads its weights.

        Args:
            checkpoint_path: a folder, a prefix, or one of a checkpoint's files.
            platform: where it is to run.

        Raises:
            PSENetError: the checkpoint is missing, damaged or of another network.
        """
        self._prefix = resolve_checkpoint(checkpoint_path)
        self._sizes = platform.input_sizes
        # Size -> input and output; the network of a fixed size is built when an image needs it.
        self._built: Dict[Optional[Size], Tuple[tf.Tensor, tf.Tensor]] = {}
        super().__init__(platform)

    def _load(self, is_on_cpu: bool) -> None:
        self._enlarge_last = is_on_cpu
        self._endpoints(self._sizes[0] if self._sizes else None)
        restore_for_inference(self._session, self._prefix)

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """As for every ScoreNetwork."""
        height, width = image_rgb.shape[:2]
        size = next_size((width, height), self._sizes) if self._sizes else None
        images, score_maps = self._endpoints(size)
        found = self._run(score_maps, images, pad_image(image_rgb, size or (width, height)))
        return found[:height // cfg.STRIDE, :width // cfg.STRIDE]

    def _endpoints(self, size: Optional[Size]) -> Tuple[tf.Tensor, tf.Tensor]:
        """Input and output of the network for a size; all sizes share the variables."""
        if size not in self._built:
            width, height = size or (None, None)
            batch = 1 if size else None
            with self._graph.as_default(), tf.variable_scope('', reuse=tf.AUTO_REUSE):
                images = tf.placeholder(tf.uint8, [batch, height, width, 3], name='input_images')
                # A quarter less time on a CPU, measured; docs/performance.md has what gains nothing
                # there (frozen weights, folded batch norm, other numbers of threads). GPUs were not
                # measured, and an NPU is best given the network that it was given in training.
                score_maps = model(tf.to_float(images), is_training=False,
                                   enlarge_last=self._enlarge_last)
            self._built[size] = images, score_maps
        return self._built[size]
