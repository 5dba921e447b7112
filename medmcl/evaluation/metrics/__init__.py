"""Metrics, their bootstrap intervals, and the curves they are read from."""
