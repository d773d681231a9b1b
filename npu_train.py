r"""Trains PSENet on an Ascend NPU, with the TensorFlow adapter of CANN.

    python npu_train.py --training_data_path=./ocr/icdar2015/ --checkpoint_path=./checkpoint/ \
        --pretrained_model_path=./pretrain_model/resnet_v1_50.ckpt
    python npu_train.py --restore ...      continue the run in --checkpoint_path
    python npu_train.py --api=estimator --iterations_per_loop=10 ...      train with NPUEstimator

ASCEND_DEVICE_ID, or DEVICE_ID if it is unset, selects the device. To train on several NPUs, start
one process per NPU, as train_npu_8p.sh does, with RANK_SIZE, RANK_ID, JOB_ID and RANK_TABLE_FILE.
The training flags and the exit codes are those of train.py: 0 at --max_steps, 128 + n after Ctrl-C,
SIGTERM, SIGHUP or SIGUSR1, where n is the number of the signal (the run is saved), and 1 after an
error. Either script can continue checkpoints of the other.
"""

from functools import partial
from typing import List

from absl import flags

from training.config import define_train_flags, train_config_from_flags
from training.devices.npu.options import check_estimator, define_npu_flags, npu_config_from_flags
from utils import cli
from utils.tf_env import hide_gpus


def main(_: List[str]) -> int:
    """Runs the script; returns its exit code."""
    config = train_config_from_flags(flags.FLAGS)
    npu_config = npu_config_from_flags(flags.FLAGS)
    hide_gpus()
    # These import TensorFlow, which reads the environment at import.
    from training.devices.npu.estimator import in_estimator
    from training.devices.npu.session import NpuDevice
    from training.hooks import FinalFigures
    from training.loop import in_session, train
    device = NpuDevice(npu_config)
    take_steps = in_session
    if npu_config.api == 'estimator':
        check_estimator(config, npu_config, device.world_size)
        take_steps = in_estimator(npu_config)
    figures = FinalFigures(config.batch_size_per_gpu * device.world_size,
                           partial(print, flush=True))
    return train(config, device, [figures], take_steps)


if __name__ == '__main__':
    define_npu_flags()
    define_train_flags()
    cli.run(main, __doc__)
