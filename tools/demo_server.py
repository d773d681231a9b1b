"""A web page, and an API for programs, that show what a trained checkpoint detects.

    python -m tools.demo_server --checkpoint_path=./checkpoint/
    python -m tools.demo_server --engine=onnx --model=./export/psenet.onnx --port=0
    curl -F image=@img_1.jpg http://127.0.0.1:8080/detect

The page takes a picture and shows its boxes and kernels; thresholds can be moved there. Thresholds
that tools.sweep --write has left beside the checkpoint count, unless flags give others. Nobody
has to log in, so it listens to this machine alone, unless --host names another address. Ctrl-C ends
it. docs/demo_server.md describes the API.
"""

import logging
import os
from typing import List

from absl import flags

from inference import config as detect_config
from inference.networks import Platform, open_network
from inference.thresholds import follow_thresholds
from tools.serving.options import (
    ServeOptions,
    define_serve_flags,
    is_loopback,
    serve_options_from_flags,
)
from tools.serving.service import Service, Settings
from utils import cli
from utils.errors import extra_package
from utils.tf_env import configure_tensorflow, define_gpu_flag
from utils.utils_tool import logger

# For the network to finish its image once the end was asked for.
_GRACE_SECONDS = 5


def define_demo_server_flags() -> None:
    """Defines the flags of this command."""
    detect_config.define_checkpoint_flag()
    detect_config.define_model_flag()
    detect_config.define_engine_flag()
    define_gpu_flag()
    define_serve_flags()
    detect_config.define_threshold_flags()
    detect_config.define_shape_flags()
    detect_config.define_size_flags()


def serve(config: detect_config.DetectConfig, options: ServeOptions) -> int:
    """Serves until a signal ends it.

    Args:
        config: of detection.
        options: of the server.

    Returns:
        The exit code.

    Raises:
        PSENetError: the network, the address or the samples cannot be used.
    """
    with extra_package('tools.demo_server'):
        from tools.serving.app import create_app
        from tools.serving.server import Server, serve_until_signalled

    server = Server(options.host, options.port)
    network = open_network(config, Platform(config.gpu_list))
    service = Service(network, Settings(_model_name(config), config, options))
    server.app = create_app(service)
    _announce(server.url, options.host)
    exit_code = serve_until_signalled(server)
    _end(service, exit_code)
    network.close()
    return exit_code


def _model_name(config: detect_config.DetectConfig) -> str:
    if config.model:
        return os.path.basename(os.path.normpath(config.model))
    # TensorFlow comes with it.
    from training.checkpoints import resolve_checkpoint

    return os.path.basename(resolve_checkpoint(config.checkpoint_path))


def _announce(url: str, host: str) -> None:
    if not is_loopback(host):
        logger.warning('--host=%s: whoever reaches this address can use the server, as there is no '
                       'authentication', host)
    print(f'{url} is ready; Ctrl-C ends it', flush=True)


def _end(service: Service, exit_code: int) -> None:
    """Ends the network's thread; where it is at work on an image for too long, the process."""
    if service.close(_GRACE_SECONDS):
        logger.info('ended')
        return
    logger.warning('ended while the network was at work on an image')
    logging.shutdown()
    # Nothing stops a run of TensorFlow, and Python's own end would wait for it or break it.
    os._exit(exit_code)


def main(_: List[str]) -> int:
    """Runs the server that the flags describe; returns the exit code."""
    config = detect_config.detect_config_from_flags(flags.FLAGS)
    options = serve_options_from_flags(flags.FLAGS)
    configure_tensorflow(config.gpu_list)
    given = [name for name in flags.FLAGS if flags.FLAGS[name].present]
    config = follow_thresholds(config, given)
    return serve(config, options)


if __name__ == '__main__':
    define_demo_server_flags()
    cli.run(main, __doc__)
