"""Where the network runs; known without TensorFlow, which starts when that has been decided."""

from typing import Any, NamedTuple, Tuple

from inference.input_sizes import Size


class Platform(NamedTuple):
    """By default GPUs, or the CPU where TensorFlow sees none.

    gpu_list: GPUs that were asked for; a warning tells when TensorFlow does not see them.
    session_config: the tf.ConfigProto that another device needs; None for GPUs and the CPU.
    input_sizes: (width, height) of the inputs that such a device compiles the network for, smallest
        first; empty where any size will do.
    """

    gpu_list: str = ''
    session_config: Any = None
    input_sizes: Tuple[Size, ...] = ()


GPU_OR_CPU = Platform()
