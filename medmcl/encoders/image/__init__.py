"""Encoders of images, volumes and cine series."""
