"""Networks that TensorFlow runs: the session that they have in common."""

import abc

import numpy as np
import tensorflow as tf

from inference.platform import Platform
from inference.score_network import ScoreNetwork, too_little_memory
from utils.tf_env import warn_of_missing_gpus


class SessionNetwork(ScoreNetwork):
    """A network with a graph and a session of its own."""

    def __init__(self, platform: Platform):
        """Starts a session and loads the network into it.

        Args:
            platform: where it is to run.

        Raises:
            PSENetError: what ``_load`` finds wrong.
        """
        self._graph = tf.Graph()
        self._session = tf.Session(graph=self._graph, config=_session_config(platform))
        try:
            self._load(_is_on_cpu(self._session, platform))
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def _load(self, is_on_cpu: bool) -> None:
        """Brings the graph and its weights into the session.

        Args:
            is_on_cpu: whether the CPU does all the work.
        """

    def close(self) -> None:
        """Frees the session; nothing can be run any more."""
        self._session.close()

    def _run(self, score_maps: tf.Tensor, images: tf.Tensor, image_rgb: np.ndarray) -> np.ndarray:
        """The score maps of one image, (H, W, 3); PSENetError where memory is too little."""
        try:
            return self._session.run(score_maps, {images: image_rgb[np.newaxis]})[0]
        except tf.errors.ResourceExhaustedError:
            raise too_little_memory(image_rgb.shape) from None


def _session_config(platform: Platform) -> tf.ConfigProto:
    if platform.session_config is not None:
        return platform.session_config
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    return config


def _is_on_cpu(session: tf.Session, platform: Platform) -> bool:
    """Whether the CPU does all the work; logs a warning where GPUs were meant to."""
    if platform.session_config is not None:
        return False
    types = [device.device_type for device in session.list_devices()]
    warn_of_missing_gpus(platform.gpu_list, types)
    return 'GPU' not in types
