"""A fake of the collective library's Python, which comes with CANN; NPU.md, sections 1 and 4."""
