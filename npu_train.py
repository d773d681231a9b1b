r"""Trains PSENet on an Ascend NPU, with the TensorFlow adapter of CANN.

    python npu_train.py --training_data_path=./ocr/icdar2015/ --checkpoint_path=./checkpoint/ \
        --pretrained_model_path=./pretrain_model/resnet_v1_50.ckpt
    python npu_train.py --restore ...      go on with the run in --checkpoint_path

ASCEND_DEVICE_ID names the device (DEVICE_ID where it is unset). The flags of training are those of
train.py, and so are the exit codes: 0 at --max_steps, 130 after Ctrl-C and 143 after SIGTERM (saved
in both cases), and 1 after an error. Checkpoints of either script continue in the other.
"""

from functools import partial
from typing import List

from absl import flags

from training.config import define_train_flags, train_config_from_flags
from training.npu_options import define_npu_flags, npu_config_from_flags
from utils import cli
from utils.tf_env import hide_gpus


def main(_: List[str]) -> int:
    """Trains as the flags say; returns the process's exit code."""
    config = train_config_from_flags(flags.FLAGS)
    npu_config = npu_config_from_flags(flags.FLAGS)
    hide_gpus()
    # TensorFlow comes with these, and reads the environment when it starts.
    from training.final_figures import FinalFigures
    from training.loop import train
    from training.npu import NpuDevice
    device = NpuDevice(npu_config)
    figures = FinalFigures(config.batch_size_per_gpu * device.world_size,
                           partial(print, flush=True))
    return train(config, device, [figures])


if __name__ == '__main__':
    define_npu_flags()
    define_train_flags()
    cli.run(main, __doc__)
