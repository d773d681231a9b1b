"""Annotated images to training batches, in worker processes that know no TensorFlow."""
