"""From a checkpoint and images to text boxes: detection, post-processing and result files."""
