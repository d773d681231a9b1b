"""Exporting a trained network: one graph with the weights in it, in forms for other programs."""
