"""Serves a web page and an HTTP API for text detection with a trained checkpoint.

    python -m tools.demo_server --checkpoint_path=./checkpoint/
    python -m tools.demo_server --engine=onnx --model=./export/psenet.onnx --port=0
    curl -F image=@img_1.jpg http://127.0.0.1:8080/detect

The page accepts an image, shows its boxes and kernels, and lets users vary the thresholds. The
initial thresholds are those that tools.sweep --write stored with the checkpoint, unless flags
override them. Requests are not authenticated, so the server listens on localhost only, unless
--host gives another address. Ctrl-C stops it. docs/demo_server.md describes the API.
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

# Time for the network to finish its image at shutdown.
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
        config: configuration of detection.
        options: options of the server.

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
    # It imports TensorFlow.
    from training.checkpoints import resolve_checkpoint

    return os.path.basename(resolve_checkpoint(config.checkpoint_path))


def _announce(url: str, host: str) -> None:
    if not is_loopback(host):
        logger.warning('--host=%s: anyone who can reach this address can use the server, as there '
                       'is no authentication', host)
    print(f'{url} is ready; Ctrl-C stops it', flush=True)


def _end(service: Service, exit_code: int) -> None:
    """Waits for the network; ends the process if that takes too long."""
    if service.close(_GRACE_SECONDS):
        logger.info('stopped')
        return
    logger.warning('stopped while the network was processing an image')
    logging.shutdown()
    # A run of TensorFlow cannot be interrupted, and a normal exit would wait for it or crash.
    os._exit(exit_code)


def main(_: List[str]) -> int:
    """Runs the server; returns the exit code."""
    config = detect_config.detect_config_from_flags(flags.FLAGS)
    options = serve_options_from_flags(flags.FLAGS)
    configure_tensorflow(config.gpu_list)
    given = [name for name in flags.FLAGS if flags.FLAGS[name].present]
    config = follow_thresholds(config, given)
    return serve(config, options)


if __name__ == '__main__':
    define_demo_server_flags()
    cli.run(main, __doc__)
