"""Which program runs the network: TensorFlow, from a checkpoint or an exported model, or another.

An engine is imported when it is chosen, so that none of them waits for the packages of another.
"""

from inference.config import DetectConfig
from inference.detector import Detector
from inference.platform import GPU_OR_CPU, Platform
from inference.score_network import ScoreNetwork


def open_network(config: DetectConfig, platform: Platform = GPU_OR_CPU) -> ScoreNetwork:
    """Opens the network that a configuration names.

    Args:
        config: engine, model and checkpoint; nothing else in it plays a part.
        platform: where TensorFlow is to run it; ONNX Runtime runs on the CPU.

    Returns:
        The network; the caller closes it.

    Raises:
        PSENetError: the model or the checkpoint is missing, damaged or of another network, or a
            package is not installed.
    """
    if not config.model:
        from inference.network import Network
        return Network(config.checkpoint_path, platform)
    if config.engine == 'onnx':
        from inference.onnx_network import OnnxNetwork
        return OnnxNetwork(config.model)
    from inference.exported_network import ExportedNetwork
    return ExportedNetwork(config.model, platform)


def open_detector(config: DetectConfig, platform: Platform = GPU_OR_CPU) -> Detector:
    """Opens the network of a configuration with its thresholds and limits around it.

    Args:
        config: of the run.
        platform: where TensorFlow is to run the network, and which sizes of input that allows.

    Returns:
        The detector; a context manager that closes the network.

    Raises:
        PSENetError: as ``open_network``.
    """
    return Detector(open_network(config, platform), config, platform.input_sizes)
