"""The layout of the library; NPU.md, section 1."""
