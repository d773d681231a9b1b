"""The network: image in, score maps of the shrunk text kernels out, and the loss that trains it."""
