"""Commands around the main job; each runs as a file and is importable as ``tools.<name>``."""
