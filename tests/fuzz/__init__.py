"""Looking for inputs that nobody thought of: ``make fuzz``, and a short version among the tests.

Each target is a program of its own, so that one that crashes ends nothing else. It stops at its
first finding.
"""
