"""Export of a trained network in formats for other programs."""
