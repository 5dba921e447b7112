"""Encoders of coded events."""
