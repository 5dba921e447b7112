"""Encoders of signals."""
