"""Tests of the fake npu_bridge."""
