"""Training: configuration, devices, graph, checkpoints, and the loop."""
