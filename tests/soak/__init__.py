"""What a training run survives: ``make soak``, and a short version among the tests.

Everything goes through train.py in processes of its own, on the CPU and on a network input as small
as it can be, and is judged by what lies in the checkpoint directory and stands in the log.
"""
