r"""Trains PSENet on an Ascend NPU, with the TensorFlow adapter of CANN.

    python npu_train.py --training_data_path=./ocr/icdar2015/ --checkpoint_path=./checkpoint/ \
        --pretrained_model_path=./pretrain_model/resnet_v1_50.ckpt
    python npu_train.py --restore ...      go on with the run in --checkpoint_path
    python npu_train.py --api=estimator --iterations_per_loop=10 ...      through NPUEstimator

ASCEND_DEVICE_ID names the device (DEVICE_ID where it is unset). On several NPUs each has a process
of its own, as train_npu_8p.sh starts them; RANK_SIZE, RANK_ID, JOB_ID and RANK_TABLE_FILE tell it
with whom it trains. The flags of training are those of train.py, and so are the exit codes: 0 at
--max_steps, 128 + n after Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, n being the signal's number (what was
trained is saved), and 1 after an error.
Checkpoints of either script continue in the other.
"""

from functools import partial
from typing import List

from absl import flags

from training.config import define_train_flags, train_config_from_flags
from training.devices.npu.options import check_estimator, define_npu_flags, npu_config_from_flags
from utils import cli
from utils.tf_env import hide_gpus


def main(_: List[str]) -> int:
    """Trains as the flags say; returns the process's exit code."""
    config = train_config_from_flags(flags.FLAGS)
    npu_config = npu_config_from_flags(flags.FLAGS)
    hide_gpus()
    # TensorFlow comes with these, and reads the environment when it starts.
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
