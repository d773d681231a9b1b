"""Devices for the training loop: GPUs and CPU, Horovod, and Ascend NPUs."""
