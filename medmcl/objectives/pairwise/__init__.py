"""Losses of two modalities, or of two views of one."""
