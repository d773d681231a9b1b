"""Ascend NPUs through the TensorFlow adapter of CANN, which no other package imports."""
