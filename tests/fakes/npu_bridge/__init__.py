"""A fake of the TensorFlow adapter for Ascend; importing it puts every session under watch.

Source: NPU.md, sections 0 and 1. The real package loads its native part at this point.
"""

from fake_npu import session
from fake_npu.release import release

release()  # an unknown one is refused at once
session.install()
