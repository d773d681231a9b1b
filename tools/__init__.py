"""Commands around training and detection; each runs as ``python -m tools.<name>``."""
