"""Devices for the training loop: GPUs and the CPU, Horovod, Ascend NPUs."""
