"""A fake of the collective library, no part of the adapter; NPU.md, sections 1 and 4."""
