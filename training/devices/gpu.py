"""NVIDIA GPUs with one tower each in a single process, or the CPU."""

from typing import ContextManager

import tensorflow as tf

from training.devices.device import Device
from utils.tf_env import parse_gpu_list, warn_of_missing_gpus


class GpuDevice(Device):
    """The GPUs in ``gpu_list``, or the CPU if it is empty.

    ``utils.tf_env.configure_tensorflow`` hides all other GPUs, so they are numbered from 0 here.
    Without a GPU the towers share the CPU.
    """

    def __init__(self, gpu_list: str):
        """Takes the comma-separated GPU numbers of ``--gpu_list``; empty for the CPU."""
        self._gpu_list = gpu_list
        self._gpus = parse_gpu_list(gpu_list)

    @property
    def num_towers(self) -> int:
        return max(1, len(self._gpus))

    def tower_scope(self, index: int) -> ContextManager:
        return tf.device(f'/gpu:{index}' if self._gpus else '/cpu:0')

    def session_config(self) -> tf.ConfigProto:
        config = tf.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
        return config

    def prepare(self) -> None:
        """Logs a warning if TensorFlow sees fewer GPUs than requested."""
        with tf.Session(graph=tf.Graph(), config=self.session_config()) as session:
            warn_of_missing_gpus(self._gpu_list,
                                 [device.device_type for device in session.list_devices()])
