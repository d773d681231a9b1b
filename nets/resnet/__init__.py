"""ResNet version 1 in the layout of the published ImageNet checkpoints of TF-slim."""
