"""The tests, a package so that its modules of shared code can be imported by name."""
