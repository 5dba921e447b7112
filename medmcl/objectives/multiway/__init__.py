"""Losses of many modalities at once."""
