"""Graphs of fixed regions: readers, estimates, checks."""
