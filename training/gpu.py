"""NVIDIA GPUs, one tower each in one process, and the CPU as the device without any."""

from typing import ContextManager

import tensorflow as tf

from training.device import Device
from utils.tf_env import parse_gpu_list
from utils.utils_tool import logger


class GpuDevice(Device):
    """The GPUs of ``gpu_list``, or the CPU when it is empty.

    ``utils.tf_env.configure_tensorflow`` hides every other GPU, so the towers' GPUs are numbered
    from 0 here. Without a GPU the towers run on the CPU, one after the other.
    """

    def __init__(self, gpu_list: str):
        """Takes the comma-separated GPU numbers of ``--gpu_list``; empty for the CPU."""
        self._gpus = parse_gpu_list(gpu_list)

    @property
    def num_towers(self) -> int:
        return max(1, len(self._gpus))

    def tower_scope(self, index: int) -> ContextManager:
        return tf.device('/gpu:%d' % index if self._gpus else '/cpu:0')

    def session_config(self) -> tf.ConfigProto:
        config = tf.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
        return config

    def prepare(self) -> None:
        """Logs a warning when GPUs were asked for and TensorFlow sees fewer."""
        with tf.Session(graph=tf.Graph(), config=self.session_config()) as session:
            found = sum(device.device_type == 'GPU' for device in session.list_devices())
        if found < len(self._gpus):
            logger.warning('--gpu_list names %d GPUs and TensorFlow sees %d: the other towers run '
                           'on the CPU, at seconds a step (--gpu_list="" if that is meant)',
                           len(self._gpus), found)
