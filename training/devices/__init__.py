"""What the training loop asks of the hardware: GPUs and the CPU, Horovod, Ascend NPUs."""
