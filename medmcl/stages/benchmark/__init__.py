"""Benchmarks: encoders beside each other on the tasks of a suite."""
