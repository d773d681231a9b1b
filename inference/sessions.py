"""Sessions of TensorFlow that networks run in."""

import tensorflow as tf

from inference.platform import Platform
from utils.tf_env import warn_of_missing_gpus


def open_session(graph: tf.Graph, platform: Platform) -> tf.Session:
    """Starts a session for a graph where the platform wants it to run."""
    config = platform.session_config
    if config is None:
        config = tf.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
    return tf.Session(graph=graph, config=config)


def is_on_cpu(session: tf.Session, platform: Platform) -> bool:
    """Whether the CPU does all the work; logs a warning where GPUs were meant to."""
    if platform.session_config is not None:
        return False
    types = [device.device_type for device in session.list_devices()]
    warn_of_missing_gpus(platform.gpu_list, types)
    return 'GPU' not in types
