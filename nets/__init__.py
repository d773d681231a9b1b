"""The network, which predicts score maps of text kernels from an image, and its losses."""
