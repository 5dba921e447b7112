"""Genetics: files, quality control, ancestry."""
