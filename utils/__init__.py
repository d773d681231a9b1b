"""Helpers that every layer may use; nothing here imports project code outside ``utils``."""
