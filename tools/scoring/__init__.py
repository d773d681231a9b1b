"""Scoring of a checkpoint on images with ground truth."""
