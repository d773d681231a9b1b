"""What stands behind the fake ``npu_bridge``: releases, checks, the float status, the record.

The modules below ``npu_bridge`` and ``hccl`` keep the adapter's names and signatures; what they do
and refuse is written here, once.
"""
