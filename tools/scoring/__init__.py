"""What the commands share that score a checkpoint on images with ground truth."""
