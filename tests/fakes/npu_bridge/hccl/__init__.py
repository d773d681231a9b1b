"""The layout of the adapter; NPU.md, section 1."""
