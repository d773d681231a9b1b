"""Text detection with a trained network: post-processing and result files."""
