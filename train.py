r"""Trains PSENet on NVIDIA GPUs or on the CPU.

    python train.py --training_data_path=./ocr/icdar2015/ --checkpoint_path=./checkpoint/ \
        --pretrained_model_path=./pretrain_model/resnet_v1_50.ckpt
    python train.py --gpu_list="" ...      on the CPU
    python train.py --restore ...          continue the run in --checkpoint_path
    horovodrun -np 2 .venv/bin/python train.py --distributed=horovod --gpu_list=0,1 ...
                                           train with two processes: docs/distributed.md

The exit code is 0 at --max_steps, 128 + n after Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, where n is the
number of the signal (the run is saved), and 1 after an error.
"""

import os
from typing import List

from absl import flags

from training.config import TrainConfig, define_train_flags, train_config_from_flags
from training.devices.launcher import (
    RankInfo,
    define_distributed_flag,
    find_rank,
    own_gpu,
    step_below_launcher,
)
from utils import cli
from utils.tf_env import configure_tensorflow, define_gpu_flag


def main(_: List[str]) -> int:
    """Runs the script; returns its exit code."""
    config = train_config_from_flags(flags.FLAGS)
    rank_info = find_rank(os.environ, bool(flags.FLAGS.distributed))
    if flags.FLAGS.distributed:
        return train_with_others(config, rank_info)
    configure_tensorflow(flags.FLAGS.gpu_list)
    # These import TensorFlow, which reads the environment at import.
    from training.devices.gpu import GpuDevice
    from training.loop import train
    return train(config, GpuDevice(flags.FLAGS.gpu_list))


def train_with_others(config: TrainConfig, rank_info: RankInfo) -> int:
    """Trains as one of the processes of a launcher."""
    gpu = own_gpu(flags.FLAGS.gpu_list, rank_info)
    if rank_info.world_size > 1:
        step_below_launcher()
    configure_tensorflow(gpu)
    from training.devices.horovod import HorovodDevice
    from training.loop import train
    return train(config, HorovodDevice(gpu, rank_info))


if __name__ == '__main__':
    define_gpu_flag()
    define_distributed_flag()
    define_train_flags()
    cli.run(main, __doc__)
