"""Coded events of a person."""
