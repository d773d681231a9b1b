"""Training: configuration, the device seam, the graph, checkpoints, and the loop that runs them."""
